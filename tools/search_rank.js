// How Sphinx's search ranks what it finds (it becomes part of searchtools.js): chapters, then other prose, then the API.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false; // a page on disk may read no other

var Scorer = {
  score: ([page, , , , score]) => {
    if (page === "api" || page.startsWith("api/")) return score - 1000;
    const chapter = page.match(/^notebooks\/(\d+)_/);
    return chapter ? score + 1000 - chapter[1] / 100 : score; // of two as good, the earlier one
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
