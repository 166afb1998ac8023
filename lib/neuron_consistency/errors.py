"""The errors a user can meet: each names the thing that is wrong and the cure."""


class NeuronConsistencyError(Exception):
    """Base of every error this library raises on purpose."""


class DatasetError(NeuronConsistencyError):
    """A dataset is missing, corrupt, laid out otherwise than expected, or holds an unknown class."""


class ParameterError(NeuronConsistencyError):
    """A parameter is unknown, has the wrong type or a value that cannot work."""


class TrainingError(NeuronConsistencyError):
    """Training cannot go on: the loss is not finite, or a checkpoint belongs to other parameters."""


class StoreError(NeuronConsistencyError):
    """A file of the artifacts folder cannot be written or read."""
