"""The live page for people: one self-contained document that asks /streams and /readyz every two seconds.

Names come from producers, so the script only ever writes text, never markup, and the policy lets nothing else run.
"""

from __future__ import annotations

import base64
import hashlib

_STYLE = """
:root{color-scheme:light dark;--line:#8884;--dim:#777;--critical:#d1242f;--warning:#bf6a02;--info:#0969da;--ok:#1a7f37}
body{font:14px/1.45 system-ui,sans-serif;margin:1.5rem auto;max-width:75rem;padding:0 1rem}
h1{font-size:1.2rem;margin:0 0 .8rem}
header{display:flex;gap:1rem;align-items:baseline;flex-wrap:wrap}
header span,small,.dim{color:var(--dim)}
nav{margin-left:auto;display:flex;gap:.8rem}
input{font:inherit;padding:.25rem .5rem;width:16rem;max-width:100%}
table{border-collapse:collapse;width:100%;margin-top:.8rem}
th,td{text-align:left;vertical-align:top;padding:.35rem .6rem;border-bottom:1px solid var(--line)}
td{overflow-wrap:anywhere}
th{font-weight:600;white-space:nowrap}
td.number{text-align:right;font-variant-numeric:tabular-nums}
.critical{color:var(--critical);font-weight:600}.warning{color:var(--warning);font-weight:600}
.info{color:var(--info)}.none{color:var(--ok)}
p{margin:0}
"""

_SCRIPT = """
const $ = id => document.getElementById(id);
const put = (parent, tag, text, name) => {
  const node = parent.appendChild(document.createElement(tag));
  node.textContent = text; if (name) node.className = name; return node;
};
function row(stream) {
  const line = document.createElement('tr');
  const word = stream.severity === 'none' ? stream.state : stream.severity;
  put(line, 'td', word, stream.state === 'learning' ? 'dim' : stream.severity);
  put(line, 'td', stream.stream);
  const said = put(line, 'td', '');
  for (const alert of stream.firing) put(said, 'p', alert.summary);
  if (!stream.firing.length) {
    for (const j of stream.judgements) put(said, 'p', j.finding, 'dim');
    if (!stream.reference) put(said, 'p', 'no reference yet', 'dim');
  }
  for (const note of stream.notes) put(said, 'p', note, 'dim');
  put(line, 'td', stream.rows.toLocaleString(), 'number');
  put(line, 'td', stream.event_time_ms === null ? '' : new Date(stream.event_time_ms).toLocaleString(), 'dim');
  return line;
}
async function refresh() {
  try {
    const query = new URLSearchParams({limit: 100, search: $('search').value});
    const [streams, ready] = await Promise.all([
      fetch('streams?' + query).then(answer => answer.json()), fetch('readyz').then(answer => answer.json())]);
    $('rows').replaceChildren(...streams.streams.map(row));
    $('state').textContent = [ready.state.replaceAll('_', ' '), ...ready.reasons].join(' \\u2014 ');
    $('shown').textContent = streams.streams.length + ' of ' + streams.total + ' streams, worst first';
  } catch (error) {
    $('state').textContent = 'streamd does not answer: ' + error.message;
  }
  setTimeout(refresh, 2000);
}
refresh();
"""

PAGE = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>streamd</title><style>{_STYLE}</style></head>
<body><header><h1>streamd</h1><span id="state">…</span>
<nav><a href="metrics">metrics</a><a href="streams">streams</a><a href="config">config</a></nav></header>
<input id="search" type="search" placeholder="part of a stream's name" aria-label="part of a stream's name">
<small id="shown"></small>
<table><thead><tr><th>State</th><th>Stream</th><th>What is said of it</th><th>Rows</th><th>Last event</th></tr></thead>
<tbody id="rows"></tbody></table><script>{_SCRIPT}</script></body></html>
"""


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; connect-src 'self'; style-src {_source(_STYLE)}; script-src {_source(_SCRIPT)}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
