"""Great Expectations' pages made to read well by themselves: nothing in them is of another server.

They would take their looks, the marks of what passed and failed, and their buttons from servers on the internet, which
a plant's browser is not let to (`cli.data_docs`), and which a page that is opened from its file would ask. So what
points there is taken out, the marks become text, and a small stylesheet is in the page.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
_ELSEWHERE = re.compile(
    r"<script\b.*?</script>|<link\b[^>]*>|<img\b[^>]*>|<footer\b.*?</footer>|<title>.*?</title>|<style>.*?</style>|"
    r' onclick="[^"]*"|<i\b[^>]*aria-hidden[^>]*></i>',
    re.DOTALL | re.IGNORECASE,
)
_SUITE = re.compile(r'<a href="[^"]*/expectations/[^"]*"\s*>(.*?)</a>', re.DOTALL)
"""Of a suite there is no page."""
_MARK = re.compile(r'<i class="fas (fa-[a-z-]+)[^"]*"\s*></i>')
_MARKS = {
    "fa-check-circle": '<span class="status passed">✓ passed</span>',
    "fa-times": '<span class="status failed">✗ failed</span>',
    "fa-exclamation-triangle": '<span class="status failed">✗ not made</span>',
}
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1c2026; background: #fff; max-width: 76rem; margin: 0 auto;
  padding: 1rem 1.5rem 3rem; }
a { color: #1b5fa8; }
h4, h5, h6, .h6 { font-size: 1rem; font-weight: 600; margin: 0; }
.alert { border-bottom: 2px solid #c8ced6; margin: 1.6rem 0 .4rem; padding-bottom: .2rem; }
.breadcrumb { list-style: none; display: flex; gap: .6rem; padding: 0; margin: 0; }
.breadcrumb-item + .breadcrumb-item::before { content: "/ "; color: #7a828c; }
.col-lg-2, .breadcrumb .active, .ge-section:last-child, [data-toggle="collapse"], .collapse { display: none; }
table { border-collapse: collapse; width: 100%; }
table table { width: auto; margin: .4rem 0; font-size: .9em; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid #e1e5ea; }
th { color: #5b636d; font-weight: 600; }
td p { margin: 0; }
td:first-child:has(> div > span > .status) { width: 7rem; }
.badge { background: #eef1f4; border-radius: 4px; padding: 0 .35em; font-weight: 600; }
.status { font-weight: 700; white-space: nowrap; }
.passed { color: #17692f; }
.failed { color: #a3140f; }
tr:has(.failed) { background: #fdecea; box-shadow: inset 4px 0 #c4261f; }
.summary { font-size: 1.15rem; padding: .6rem .9rem; margin: 1rem 0 0; border-left: 6px solid; background: #f5f7f9; }
"""


def by_itself(
    page: str, title: str, results: Sequence[Mapping[str, object]], unknown: Sequence[tuple[str, str]]
) -> str:
    """A rendered page with its looks in it, under a line that says what came of it all.

    Args:
        page: as Great Expectations renders it.
        results: of every expectation; `success` is looked at.
        unknown: (rule, why) of checks that came to no expectation, which the page has nothing of.
    """
    page = _SUITE.sub(r"\1", _ELSEWHERE.sub("", page))
    page = page.replace('"../../../../index.html"', '"../../../index.html"')
    page = _MARK.sub(lambda found: _MARKS.get(found[1], ""), page)
    head = (
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>"
    )
    failed = sum(not one["success"] for one in results)
    said = f"✗ {failed} of {len(results)} failed" if failed else f"✓ all {len(results)} passed"
    summary = f'<p class="summary {"failed" if failed else "passed"}">{said}: {html.escape(title)}</p>'
    if unknown:
        rows = "".join(
            f'<tr><td><span class="status failed">✗ not made</span></td><td>{html.escape(rule)}</td>'
            f"<td>{html.escape(why)}</td></tr>"
            for rule, why in unknown
        )
        summary += f"<table><tbody>{rows}</tbody></table>"
    page = page.replace("</head>", f"{head}</head>", 1)
    return page.replace('<div class="container-fluid', f'{summary}<div class="container-fluid', 1)
