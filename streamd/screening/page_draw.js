// --- Pictures: the classes are those of the common sheet ---

const SVG = 'http://www.w3.org/2000/svg';
const WIDTH = 560, LEFT = 58, RIGHT = 14;
const el = (parent, tag, attributes, text) => {
  const node = parent.appendChild(document.createElementNS(SVG, tag));
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
};
const canvas = (parent, height, title) => el(parent, 'svg', {viewBox: '0 0 ' + WIDTH + ' ' + height, role: 'img', 'aria-label': title});
const thumb = (parent, width) => el(parent, 'svg', {viewBox: '0 0 ' + width + ' 34', preserveAspectRatio: 'none', 'class': 'thumb', 'aria-hidden': 'true'});
const at = value => value.toFixed(1);
const line = points => points.length ? 'M' + points.map(([x, y]) => at(x) + ' ' + at(y)).join('L') : '';

function ticks(low, high, wanted) {
  if (!(high > low)) return [low];
  const rough = (high - low) / wanted, unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(m => m * unit).find(size => size >= rough * .999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i <= Math.floor(high / step + 1e-9); i++) found.push(Number((i * step).toPrecision(12)));
  return found;
}
// Ticks with the digits that tell them apart.
const numbered = found => {
  const step = found.length > 1 ? found[1] - found[0] : 1, places = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9));
  const plain = value => value.toLocaleString('en', {minimumFractionDigits: places, maximumFractionDigits: places, useGrouping: 'min2'});
  return found.map(value => [value, Math.max(...found.map(Math.abs)) < 1e7 && places < 5 ? plain(value).replace('-', '−') : short(value)]);
};
const STEPS = [60, 300, 900, 3600, 10800, 21600, 43200, 86400, 172800, 604800, 1209600], MONTH = 2629800;
function timeTicks(low, high) {
  const step = STEPS.find(size => (high - low) / size <= 5), found = [];
  if (step) for (let t = Math.ceil(low / step) * step; t <= high; t += step) found.push(t);
  else {
    const months = [1, 2, 3, 6, 12, 24, 60, 120].find(count => (high - low) / MONTH / count <= 5) || Math.ceil((high - low) / MONTH / 60) * 12;
    const first = new Date(low * 1000), year = first.getUTCFullYear();
    for (let month = 0, t; (t = Date.UTC(year, month) / 1000) <= high; month += months) if (t >= low) found.push(t);
  }
  const cut = !step ? [0, 7] : step >= 86400 ? [0, 10] : high - low < 86400 ? [11, 16] : [5, 16];
  return found.map(t => [t, new Date(t * 1000).toISOString().slice(...cut).replace('T', ' ')]);
}
const spread = (low, high) => high > low ? [low, high] : [low - Math.max(.5, Math.abs(low) * .05), high + Math.max(.5, Math.abs(high) * .05)];

// Where the values of a histogram lie: a place for any of them, at the ends for what is beyond.
function scale(column, left, right) {
  const [low, high] = spread(column.histogram.low, column.histogram.high);
  const slack = (high - low) * 1e-3;  // the ends are rounded
  const x = value => left + (right - left) * Math.min(1, Math.max(0, (value - low) / (high - low)));
  return {x, low, high, inside: value => value >= low - slack && value <= high + slack};
}
function outline(column, left, right, top, bottom) {
  const counts = column.histogram.counts, most = Math.max(1, ...counts), wide = (right - left) / counts.length;
  const points = [[left, bottom]];
  counts.forEach((count, i) => {
    const y = bottom - (bottom - top) * count / most;
    points.push([left + i * wide, y], [left + (i + 1) * wide, y]);
  });
  points.push([right, bottom]);
  return line(points);
}
function histogram(parent, column) {
  if (!column.histogram) return;
  const n = column.numbers, height = 250, top = 62, bottom = 212, {x, low, high, inside} = scale(column, LEFT, WIDTH - RIGHT);
  const word = worded(column), svg = canvas(parent, height, 'Histogram and box plot of ' + column.name + ': median ' + word(n.median)
    + ', middle half ' + word(n.first_quartile) + ' to ' + word(n.third_quartile));
  const most = Math.max(1, ...column.histogram.counts);
  for (const [count, told] of numbered(ticks(0, most, 3))) {
    const y = bottom - (bottom - top) * count / most;
    el(svg, 'path', {'class': 'grid', d: 'M' + LEFT + ' ' + at(y) + 'H' + (WIDTH - RIGHT)});
    el(svg, 'text', {'class': 'end', x: LEFT - 8, y: y + 4}, told);
  }
  const marks = column.type === 'time' ? timeTicks(low, high) : numbered(ticks(low, high, 5));
  for (const [value, told] of marks) {
    el(svg, 'path', {'class': 'axis', d: 'M' + at(x(value)) + ' ' + bottom + 'v4'});
    el(svg, 'text', {'class': 'middle', x: at(x(value)), y: bottom + 18}, told);
  }
  el(svg, 'path', {'class': 'axis', d: 'M' + LEFT + ' ' + bottom + 'H' + (WIDTH - RIGHT)});
  const d = outline(column, LEFT, WIDTH - RIGHT, top, bottom);
  el(svg, 'path', {'class': 'area one', d: d + 'Z'});
  el(svg, 'path', {'class': 'curve one', d});
  if (n.median !== null) boxPlot(svg, column, x, inside);
}
// Tukey's box over the histogram: whiskers to the fences, and what is beyond them as dots; at an edge: farther out still.
function boxPlot(svg, column, x, inside) {
  const n = column.numbers, y = 32, word = worded(column);
  const ends = [Math.max(n.minimum, n.low_fence ?? n.minimum), Math.min(n.maximum, n.high_fence ?? n.maximum)].map(x);
  const [q1, q2, q3] = [n.first_quartile, n.median, n.third_quartile].map(x);
  el(svg, 'path', {'class': 'whisker', d: 'M' + at(ends[0]) + ' ' + y + 'H' + at(q1) + 'M' + at(q3) + ' ' + y + 'H' + at(ends[1])
    + 'M' + at(ends[0]) + ' ' + (y - 5) + 'v10M' + at(ends[1]) + ' ' + (y - 5) + 'v10'});
  el(svg, 'rect', {'class': 'box', x: at(q1), y: y - 9, width: at(Math.max(q3 - q1, 1)), height: 18, rx: 3});
  el(svg, 'path', {'class': 'median', d: 'M' + at(q2) + ' ' + (y - 9) + 'v18'});
  let below = false, above = false;
  for (const value of column.outliers || []) {
    if (inside(value)) el(el(svg, 'circle', {'class': 'far', cx: at(x(value)), cy: y, r: 2.5}), 'title', {}, word(value));
    else if (x(value) < WIDTH / 2) below = true;
    else above = true;
  }
  if (below) far(svg, LEFT - 2, y, -1, 'to ' + word(n.minimum));
  if (above) far(svg, WIDTH - RIGHT + 2, y, 1, 'to ' + word(n.maximum));
}
function far(svg, x, y, way, told) {
  el(svg, 'path', {'class': 'far', d: 'M' + x + ' ' + (y - 5) + 'l' + 8 * way + ' 5l' + -8 * way + ' 5Z'});
  el(svg, 'text', {'class': way > 0 ? 'end' : '', x: way > 0 ? WIDTH : x - 8, y: y - 14}, told);
}
function bars(parent, column) {
  const items = [...column.categories], rest = data.rows - column.missing - items.reduce((sum, [, count]) => sum + count, 0);
  const row = 25, left = 176, right = 76, most = Math.max(1, ...items.map(item => item[1]));
  if (rest > 0) items.push([plural(Math.max(1, column.distinct - items.length), 'other value'), rest, true]);
  const svg = canvas(parent, row * items.length + 4, 'Commonest values of ' + column.name);
  items.forEach(([name, count, other], i) => {
    const y = i * row, width = Math.max(1, (WIDTH - left - right) * Math.min(1, count / most));
    const told = name === '' ? '(empty)' : name;
    const label = el(svg, 'text', {'class': 'end' + (other ? '' : ' name'), x: left - 10, y: y + 17}, told.length > 24 ? told.slice(0, 23) + '…' : told);
    el(label, 'title', {}, told);
    el(svg, 'rect', {'class': other ? 'rest' : 'bars', x: left, y: y + 5, width: at(width), height: row - 10, rx: 3});
    el(svg, 'text', {x: at(left + width + 7), y: y + 17}, percent(count / Math.max(1, data.rows - column.missing)));
  });
}
function series(parent, column) {
  const s = column.series, values = s.distinct || s.mean, top = 12, bottom = 212, buckets = data.axis.buckets;
  const seen = values.filter(v => v !== null), bounds = seen.length ? spread(Math.min(...seen), Math.max(...seen)) : [0, 1];
  const slack = bounds[1] - bounds[0], band = [...(s.low || []), ...(s.high || [])].filter(v => v !== null);
  const low = s.distinct ? 0 : Math.max(bounds[0] - slack, Math.min(bounds[0], ...band));  // a wide band is cut, so that it
  const high = Math.min(bounds[1] + slack, Math.max(bounds[1], ...band));  // does not flatten the line
  const x = point => LEFT + (WIDTH - RIGHT - LEFT) * Math.min(1, point * s.step / buckets), y = value => bottom - (bottom - top) * Math.min(1, Math.max(0, (value - low) / (high - low)));
  const svg = canvas(parent, 250, (s.distinct ? 'Different values of ' : 'Mean of ') + column.name + ' over the ' + (data.axis.kind === 'time' ? 'time' : 'rows'));
  for (const [value, told] of numbered(ticks(low, high, 4))) {
    el(svg, 'path', {'class': 'grid', d: 'M' + LEFT + ' ' + at(y(value)) + 'H' + (WIDTH - RIGHT)});
    el(svg, 'text', {'class': 'end', x: LEFT - 8, y: y(value) + 4}, told);
  }
  const {origin, width} = data.axis, end = origin + buckets * width;
  const marks = data.axis.kind === 'time' ? timeTicks(origin, end) : numbered(ticks(origin, end, 5));
  for (const [value, told] of marks) {
    const across = x((value - origin) / width / s.step);
    el(svg, 'path', {'class': 'axis', d: 'M' + at(across) + ' ' + bottom + 'v4'});
    el(svg, 'text', {'class': 'middle', x: at(across), y: bottom + 18}, told);
  }
  el(svg, 'path', {'class': 'axis', d: 'M' + LEFT + ' ' + bottom + 'H' + (WIDTH - RIGHT)});
  el(svg, 'text', {'class': 'end', x: WIDTH - RIGHT, y: bottom + 36}, data.axis.kind === 'time' ? 'time (UTC)' : 'row');
  if (s.low) for (const [first, last] of runs(s.low)) {
    const upper = [], lower = [];
    for (let b = first; b < last; b++) { upper.push([x(b + .5), y(s.high[b])]); lower.unshift([x(b + .5), y(s.low[b])]); }
    el(svg, 'path', {'class': 'band', d: line([...upper, ...lower]) + 'Z'});
  }
  el(svg, 'path', {'class': 'thin', d: traced(values, x, y)});
  for (const b of s.outside) {
    const dot = el(svg, 'circle', {'class': 'dot two', cx: at(x(b + .5)), cy: at(y(values[b] ?? low)), r: s.outside.length > 15 ? 2.5 : 4});
    el(dot, 'title', {}, place(b * s.step) + ': ' + short(values[b]));
  }
}
const traced = (values, x, y) => runs(values).map(([first, last]) => {
  const points = [];
  for (let b = first; b < last; b++) points.push([x(b + .5), y(values[b])]);
  return points.length === 1 ? line([[points[0][0] - 1, points[0][1]], [points[0][0] + 1, points[0][1]]]) : line(points);
}).join('');
function runs(values) {  // [first, last) of neighbours that are there
  const found = [];
  values.forEach((value, i) => {
    if (value === null) return;
    if (found.length && found[found.length - 1][1] === i) found[found.length - 1][1]++;
    else found.push([i, i + 1]);
  });
  return found;
}
function smallHistogram(parent, column) {
  if (!column.histogram) return;
  const svg = thumb(parent, 130), d = outline(column, 1, 129, 3, 32);
  el(svg, 'path', {'class': 'area one', d: d + 'Z'});
  el(svg, 'path', {'class': 'thin', d, 'vector-effect': 'non-scaling-stroke'});
}
function smallBars(parent, column) {
  const svg = thumb(parent, 130), items = column.categories.slice(0, 12), most = Math.max(1, ...items.map(item => item[1]));
  const wide = Math.min(18, 128 / items.length);
  items.forEach(([, count], i) => {
    const tall = Math.max(1, 29 * count / most);
    el(svg, 'rect', {'class': 'bars', x: at(1 + i * wide), y: at(32 - tall), width: at(Math.max(1, wide - 2)), height: at(tall), rx: 1});
  });
}
function smallSeries(parent, s) {
  const values = s.distinct || s.mean, seen = values.filter(v => v !== null);
  if (!seen.length) return;
  const [low, high] = s.distinct ? [0, Math.max(1, ...seen)] : spread(Math.min(...seen), Math.max(...seen));
  const x = b => 1 + 128 * Math.min(1, b * s.step / data.axis.buckets), y = value => 31 - 27 * (value - low) / (high - low), svg = thumb(parent, 130);
  el(svg, 'path', {'class': 'thin', d: traced(values, x, y), 'vector-effect': 'non-scaling-stroke'});
}

// --- What people do ---

function search(text) {
  look.search = text.trim().toLowerCase();
  filterFindings();
  arrange();
}
function go(hash) {
  const column = /^#column-(\d+)$/.exec(hash), finding = /^#finding-(\d+)$/.exec(hash);
  if (column && data.columns[column[1]]) show(Number(column[1]));
  else if (finding && findings[finding[1]]) {
    if (findings[finding[1]].hidden) {
      look.every = true;
      look.hidden.clear();
      all('.chip').forEach(chip => chip.setAttribute('aria-pressed', 'true'));
      $('search').value = '';
      search('');
    }
    findings[finding[1]].scrollIntoView({block: 'center'});
    findings[finding[1]].querySelector('a, summary')?.focus({preventScroll: true});
  }
}
function show(i) {
  if (!order.includes(i)) { $('search').value = ''; search(''); }
  while (!(rows.get(i) && rows.get(i).isConnected)) grow();
  toggle(i, true);
  rows.get(i).scrollIntoView({block: 'start'});
  rows.get(i).querySelector('.name').focus({preventScroll: true});
}
document.addEventListener('click', event => {
  const link = event.target.closest('a[href^="#"]');
  if (!link) return;
  event.preventDefault();  // in a notebook's frame a place in this document has no address
  if (location.protocol !== 'about:') history.pushState(null, '', link.getAttribute('href'));
  go(link.getAttribute('href'));
});
addEventListener('popstate', () => go(location.hash));
document.addEventListener('keydown', event => {
  if (event.key === '/' && !event.ctrlKey && !event.metaKey && !/INPUT|TEXTAREA/.test(document.activeElement.tagName)) {
    event.preventDefault();
    $('search').focus();
  } else if (event.key === 'Escape' && document.activeElement === $('search')) { $('search').value = ''; search(''); }
});
$('search').addEventListener('input', event => search(event.target.value));
all('.chip').forEach(chip => chip.addEventListener('click', () => {
  const word = chip.dataset.severity, off = !look.hidden.has(word);
  if (off) look.hidden.add(word); else look.hidden.delete(word);
  chip.setAttribute('aria-pressed', String(!off));
  filterFindings();
}));
all('th[data-sort] button').forEach(button => button.addEventListener('click', () => {
  const key = button.parentElement.dataset.sort;
  look.down = look.sort === key ? !look.down : key !== 'name' && key !== 'place';
  look.sort = key;
  arrange();
}));
$('more-findings').addEventListener('click', () => { look.every = true; filterFindings(); });
$('more-columns').addEventListener('click', grow);
new IntersectionObserver(entries => entries.some(e => e.isIntersecting) && grow(), {rootMargin: '600px'}).observe($('more-columns'));
for (const node of all('[data-needs-script]')) node.hidden = false;
filterFindings();
arrange();
if (data.columns.length <= OPEN_AT_FIRST) data.columns.forEach((_, i) => toggle(i, true));
go(location.hash);
