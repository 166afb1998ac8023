"""One class a dataset: its layout, its download, its listing and its images."""
