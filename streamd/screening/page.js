'use strict';
// Names and values come from strangers: text is only ever written as text, never as markup.
const $ = id => document.getElementById(id);
const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
const data = JSON.parse($('data').textContent);
const NUMBERS = ['minimum', 'first_quartile', 'median', 'third_quartile', 'maximum', 'mean', 'deviation', 'skewness',
  'excess_kurtosis', 'tail_index', 'zeros', 'negative', 'nonfinite', 'beyond_fences', 'beyond_3_sigma', 'low_fence', 'high_fence'];
for (const column of data.columns) {
  column.categories ||= [];
  if (column.numbers) column.numbers = Object.fromEntries(NUMBERS.map((name, i) => [name, column.numbers[i]]));
}
const SEVERITIES = ['critical', 'warning', 'info'];
const FIRST_FINDINGS = 40, CHUNK = 100, OPEN_AT_FIRST = 6;

const put = (parent, tag, text, name) => {
  const node = parent.appendChild(document.createElement(tag));
  if (text !== undefined) node.textContent = text;
  if (name) node.className = name;
  return node;
};
const whole = value => value.toLocaleString('en');
const plural = (count, noun) => whole(count) + ' ' + noun + (count === 1 ? '' : 's');
const short = value => {
  if (value === null || value === undefined) return '–';
  const size = Math.abs(value);
  if (size >= 1000 && size < 1e7) return value.toLocaleString('en', {maximumFractionDigits: 0, useGrouping: 'min2'}).replace('-', '−');
  if (size !== 0 && (size >= 1e7 || size < 1e-4)) return value.toExponential(2).replace('.00e', 'e').replace('e+', 'e').replace('-', '−');
  return String(Number(value.toPrecision(3))).replace('-', '−');
};
const percent = share => share === 0 ? '0 %' : share < 0.0001 ? '< 0.01 %' : Number((100 * share).toPrecision(share > .1 ? 3 : 2)) + ' %';
const moment = seconds => {
  if (seconds === null || !isFinite(seconds) || Math.abs(seconds) > 8e12) return '–';
  return new Date(seconds * 1000).toISOString().slice(0, 16).replace('T', ' ').replace(' 00:00', '');
};
const worded = column => column.type === 'time' ? moment : short;

// --- Findings: they are in the document already ---

const findings = all('.finding');
const texts = findings.map(item => item.textContent.toLowerCase());
const about = data.columns.map(() => []);  // the findings of each column
findings.forEach((item, i) => item.dataset.columns.split(' ').filter(Boolean).forEach(c => about[Number(c)].push(i)));
const look = {search: '', hidden: new Set(), every: false, sort: 'found', down: true};

function filterFindings() {
  let matching = 0, first = true;
  findings.forEach((item, i) => {
    const there = !look.hidden.has(item.dataset.severity) && texts[i].includes(look.search);
    matching += there;
    item.hidden = !there || (!look.every && matching > FIRST_FINDINGS);
    item.classList.toggle('first', !item.hidden && first);
    if (!item.hidden) first = false;
  });
  const left = look.every ? 0 : Math.max(0, matching - FIRST_FINDINGS);
  $('more-findings').hidden = !left;
  $('more-findings').textContent = 'Show ' + whole(left) + ' more';
  $('no-findings').hidden = matching > 0 || !findings.length;
  $('findings-told').textContent = matching === findings.length ? '' : whole(matching) + ' of ' + whole(findings.length);
}

// --- Columns: a table that grows as one scrolls ---

const tally = data.columns.map((_, i) => SEVERITIES.map(word => about[i].filter(f => findings[f].dataset.severity === word).length));
const KEYS = {
  place: i => i,
  name: i => data.columns[i].name.toLowerCase(),
  found: i => tally[i][0] * 1e8 + tally[i][1] * 1e4 + tally[i][2],
  missing: i => data.columns[i].missing,
  distinct: i => data.columns[i].distinct,
};
const rows = new Map();  // place of the column -> its <tr>
let order = [], shown = 0;
const drawn = new IntersectionObserver(entries => {
  for (const entry of entries) if (entry.isIntersecting) {
    drawn.unobserve(entry.target);
    thumbnails(Number(entry.target.dataset.place), entry.target);
  }
}, {rootMargin: '300px'});

function arrange() {
  const key = KEYS[look.sort], way = look.down ? -1 : 1;
  order = data.columns.map((_, i) => i).filter(i => matches(i));
  order.sort((a, b) => (key(a) < key(b) ? -way : key(a) > key(b) ? way : 0) || a - b);
  for (const head of all('th[data-sort]')) {
    if (head.dataset.sort === look.sort) head.setAttribute('aria-sort', look.down ? 'descending' : 'ascending');
    else head.removeAttribute('aria-sort');
  }
  $('rows').replaceChildren();
  shown = 0;
  grow();
  $('columns-told').textContent = order.length === data.columns.length ? '' : whole(order.length) + ' of ' + whole(data.columns.length);
  $('no-columns').hidden = order.length > 0;
}
function matches(i) {
  if (!look.search) return true;
  const column = data.columns[i];
  return column.name.toLowerCase().includes(look.search) || column.type.includes(look.search)
    || about[i].some(f => texts[f].includes(look.search));
}
function grow() {
  const until = Math.min(order.length, shown + CHUNK);
  for (; shown < until; shown++) {
    const row = rows.get(order[shown]) || make(order[shown]);
    $('rows').append(row);
    if (row.detail) $('rows').append(row.detail);
  }
  const left = order.length - shown;
  $('more-columns').hidden = !left;
  $('more-columns').textContent = 'Show ' + whole(Math.min(CHUNK, left)) + ' more of ' + plural(left, 'column');
}
function make(i) {
  const column = data.columns[i], row = document.createElement('tr');
  rows.set(i, row);
  row.dataset.place = i;
  row.id = 'column-' + i;
  put(row, 'td', whole(i + 1), 'number dim place');
  const name = put(row, 'td');
  const button = put(name, 'button', undefined, 'name');
  put(button, 'span', column.name || '(no name)');
  button.title = column.name;
  button.type = 'button';
  button.setAttribute('aria-expanded', 'false');
  button.onclick = () => toggle(i);
  put(name, 'span', column.type + (column.stored && column.stored !== column.type ? ' · ' + column.stored : ''), 'kind');
  const found = put(put(row, 'td', undefined, 'found'), 'div', undefined, 'tally');
  SEVERITIES.forEach((word, s) => {
    if (!tally[i][s]) return;
    const each = put(found, 'span', undefined, word);
    put(each, 'i', undefined, 'mark');
    put(each, 'span', whole(tally[i][s]));
    put(each, 'span', ' ' + word, 'unseen');
  });
  put(row, 'td', percent(data.rows ? column.missing / data.rows : 0), 'number share' + (column.missing ? '' : ' dim'));
  put(row, 'td', distinct(column), 'number count');
  put(row, 'td', typical(column), 'number typical value').title = typical(column);
  put(row, 'td', undefined, 'small');
  if (data.axis) put(row, 'td', undefined, 'small time');
  drawn.observe(row);
  return row;
}
const distinct = column => column.type === 'other' ? '–' : (column.exact ? '' : '≈ ') + whole(column.distinct);
const typical = column => column.numbers ? worded(column)(column.numbers.median).split(' ')[0] : column.categories.length ? column.categories[0][0] || '(empty)' : '–';
function thumbnails(i, row) {
  const column = data.columns[i], [first, second] = all('.small', row);
  if (column.numbers) smallHistogram(first, column);
  else if (column.categories.length) smallBars(first, column);
  if (second && column.series) smallSeries(second, column.series);
}
function toggle(i, open) {
  const row = rows.get(i) || make(i), button = row.querySelector('.name');
  const now = open === undefined ? !row.detail : open;
  if (now === Boolean(row.detail)) return;
  button.setAttribute('aria-expanded', String(now));
  row.classList.toggle('open', now);
  if (now) {
    row.detail = detail(i);
    button.setAttribute('aria-controls', row.detail.id);
    if (row.isConnected) row.after(row.detail);
  } else {
    row.detail.remove();
    row.detail = null;
    button.removeAttribute('aria-controls');
  }
}

// How many cells of a row are seen: a narrow window hides some.
const cells = () => all('.columns th').filter(head => getComputedStyle(head).display !== 'none').length;
addEventListener('resize', () => all('.detail > td').forEach(cell => { cell.colSpan = cells(); }));

// --- One column, open ---

function detail(i) {
  const column = data.columns[i], row = document.createElement('tr');
  row.className = 'detail';
  row.id = 'detail-' + i;
  const cell = put(row, 'td');
  cell.colSpan = cells();
  if (about[i].length) {
    const list = put(cell, 'ul', undefined, 'sayings');
    for (const f of about[i]) {
      const item = put(list, 'li', undefined, findings[f].dataset.severity);
      put(item, 'i', undefined, 'mark');
      const link = put(item, 'a', findings[f].querySelector('.sentence').textContent);
      link.href = '#' + findings[f].id;
    }
  }
  const pictures = put(cell, 'div', undefined, 'figures');
  if (column.numbers) figure(pictures, 'Histogram and box plot', place => histogram(place, column), beyond(column));
  if (column.categories.length) figure(pictures, 'Commonest values', place => bars(place, column));
  if (column.series) {
    const over = data.axis.kind === 'time' ? 'over time' : 'over the rows';
    if (column.series.distinct) figure(pictures, 'Different values ' + over, place => series(place, column), bucketed(column.series));
    else figure(pictures, 'Mean ' + over, place => series(place, column), bandTold(column));
  } else if (column.shortened) put(pictures, 'p', 'Its series is left out: the page would be too large. Screen fewer columns.', 'dim');
  facts(cell, column);
  if (column.worst && column.worst.length) {
    const told = column.worst.map(([at, value]) => worded(column)(value) + ' in row ' + whole(at)).join(', ');
    const list = put(cell, 'dl', undefined, 'worst');
    put(list, 'dt', 'most extreme');
    put(list, 'dd', told);
  }
  return row;
}
function figure(parent, title, draw, caption) {
  const node = put(parent, 'figure');
  put(node, 'h3', title);
  draw(node);
  if (caption) put(node, 'figcaption', caption);
}
function beyond(column) {
  const n = column.numbers;
  return n.beyond_fences ? plural(n.beyond_fences, 'row') + ' outside of ' + worded(column)(n.low_fence) + ' to ' + worded(column)(n.high_fence)
    + ' (Q1 − 1.5·IQR, Q3 + 1.5·IQR), the farthest marked. The outer bars hold what lies beyond.' : 'No row is outside of the fences.';
}
const bucketed = s => {
  const width = data.axis.width * s.step;
  return 'In each ' + (data.axis.kind === 'time' ? lasting(width) : whole(Math.round(width)) + ' rows') + '.';
};
function bandTold(column) {
  const out = column.series.outside;
  const band = column.series.low ? 'The band is the moving mean ± deviations of the window before. ' : '';
  if (!out.length) return band + bucketed(column.series);
  const named = out.slice(0, 3).map(b => place(b * column.series.step)).join(', ') + (out.length > 3 ? ', …' : '.');
  return band + plural(out.length, 'place') + ' outside: ' + named;
}
const lasting = seconds => {
  for (const [size, noun] of [[86400, 'day'], [3600, 'hour'], [60, 'minute']])
    if (seconds >= size * .999) return short(seconds / size) === '1' ? noun : short(seconds / size) + ' ' + noun + 's';
  return short(seconds) + ' seconds';
};
const place = bucket => data.axis.kind === 'time' ? moment(data.axis.origin + bucket * data.axis.width) : 'row ' + whole(Math.round(data.axis.origin + bucket * data.axis.width));
const FACTS = [['rows'], ['missing'], ['distinct'], ['minimum', 'minimum'], ['first quartile', 'first_quartile'], ['median', 'median'],
  ['third quartile', 'third_quartile'], ['maximum', 'maximum'], ['mean', 'mean'], ['deviation', 'deviation'], ['skewness', 'skewness'],
  ['excess kurtosis', 'excess_kurtosis'], ['tail index', 'tail_index'], ['zeros', 'zeros'], ['negative', 'negative'],
  ['not finite', 'nonfinite'], ['|z| > 3', 'beyond_3_sigma'], ['outside the fences', 'beyond_fences']];
const COUNTS = new Set(['zeros', 'negative', 'nonfinite', 'beyond_3_sigma', 'beyond_fences']);
const PLAIN = new Set(['skewness', 'excess_kurtosis', 'tail_index']);
const ORDERED = ['minimum', 'first_quartile', 'median', 'third_quartile', 'maximum', 'mean'];
function facts(parent, column) {
  const list = put(parent, 'dl', undefined, 'facts');
  for (const [name, key] of FACTS) {
    let told;
    if (name === 'rows') told = whole(data.rows);
    else if (name === 'missing') told = whole(column.missing) + (column.missing ? ' (' + percent(column.missing / data.rows) + ')' : '');
    else if (name === 'distinct') told = distinct(column);
    else if (!column.numbers) continue;
    else if (column.type === 'time' && !ORDERED.includes(key)) continue;
    else told = (COUNTS.has(key) ? whole : PLAIN.has(key) ? short : key === 'deviation' ? short : worded(column))(column.numbers[key] ?? null);
    const pair = put(list, 'div');
    put(pair, 'dt', name);
    put(pair, 'dd', told);
  }
}
