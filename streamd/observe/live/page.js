'use strict';
// Names come from producers: text is only ever written as text, never as markup.
const $ = id => document.getElementById(id);
const STATES = ['critical', 'warning', 'info', 'stale', 'quiet', 'learning', 'ended', 'unknown'];
const MARKS = {
  critical: 'M8 0 16 8 8 16 0 8Z', warning: 'M8 1 16 15H0Z', info: 'M2 2H14V14H2Z',
  stale: 'M1 6.5H15V9.5H1Z', quiet: 'M8 2a6 6 0 1 0 .01 0Z',
  ended: 'M3 3H13V13H3Z',
  learning: 'M8 2a6 6 0 1 0 .01 0ZM8 4.5a3.5 3.5 0 1 1 -.01 0Z', unknown: 'M8 2a6 6 0 1 0 .01 0ZM8 4.5a3.5 3.5 0 1 1 -.01 0Z'
};
const THRESHOLD = 64, POINTS_MIN = 30, PAGE = 50, METRICS_MAX = 50, SILENT_MS = 12000;

const asked = new URLSearchParams(location.hash.slice(1));
const look = {search: asked.get('search') || '', state: asked.get('state') || '', offset: Number(asked.get('offset')) || 0,
  open: asked.get('open') || ''};
const rows = new Map();  // key -> its <li>
let source = null, heardAt = 0, clockOffset = 0, order = [], found = 0, counts = {}, detail = null, timer = 0;

const put = (parent, tag, text, name) => {
  const node = parent.appendChild(document.createElement(tag));
  if (text !== undefined) node.textContent = text;
  if (name) node.className = name;
  return node;
};
const copy = id => $(id).content.firstElementChild.cloneNode(true);
const words = text => text.replaceAll('_', ' ');
const whole = number => number.toLocaleString('en');
const plural = (number, noun) => whole(number) + ' ' + noun + (number === 1 ? '' : 's');
const short = number => {
  if (number === null || number === undefined) return '–';
  if (typeof number === 'string') return number.replace('Infinity', '∞');
  const size = Math.abs(number);
  if (size !== 0 && (size < .001 || size >= 1e6)) return number.toExponential(0);
  return String(size < 1 ? Number(number.toFixed(3)) : Number(number.toPrecision(3)));
};
const measured = number => {  // more of it than of a statistic: a learning rate of 3.5e-4 is not one of 4e-4
  if (typeof number === 'string' || number === null) return short(number);
  const size = Math.abs(number);
  const near = Number(number.toPrecision(4));
  return size !== 0 && (size < .001 || size >= 1e6) ? near.toExponential() : String(near);
};
const ago = ms => {
  const seconds = Math.max(0, (Date.now() - clockOffset - ms) / 1000);
  if (seconds < 2) return 'now';
  if (seconds < 100) return Math.round(seconds) + ' s';
  if (seconds < 6000) return Math.round(seconds / 60) + ' min';
  return seconds < 172800 ? Math.round(seconds / 3600) + ' h' : Math.round(seconds / 86400) + ' d';
};
const at = ms => ms === null ? '–' : new Date(ms).toISOString().slice(0, 19).replace('T', ' ') + ' UTC';

// --- What is asked for ---

function address() {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(look)) if (value) query.set(name, value);
  return query;
}
function connect() {
  clearTimeout(timer);
  if (source) source.close();
  history.replaceState(null, '', '#' + address());
  const query = address();
  query.set('limit', PAGE);
  heardAt = Date.now();
  source = new EventSource('events?' + query);
  source.addEventListener('frame', event => { heardAt = Date.now(); frame(JSON.parse(event.data)); });
  source.addEventListener('beat', () => { heardAt = Date.now(); });
  source.onopen = () => { $('problem').hidden = true; };
  source.onerror = () => lost();
}
function lost() {
  if (source) source.close();
  source = null;
  health('lost', 'streamd does not answer');
  $('problem').textContent = 'What you see is from before. Trying again every two seconds; at most 32 views can be open.';
  $('problem').hidden = false;
  clearTimeout(timer);
  timer = setTimeout(connect, 2000);
}
function change(changes) {
  Object.assign(look, changes);
  connect();
}

// --- What comes ---

function frame(news) {
  clockOffset = Date.now() - news.now_ms;
  if (news.health) health(news.health.ready ? 'running' : 'trouble', [words(news.health.state), ...news.health.reasons].join(': '));
  if (news.counts) showCounts(news.counts);
  if (news.found !== undefined) found = news.found;
  if (news.offset !== undefined) look.offset = news.offset;
  for (const [key, row] of Object.entries(news.rows || {})) showRow(key, row);
  if (news.order) { order = news.order; arrange(); }
  if (news.detail !== undefined) { detail = news.detail; }
  if (news.detail !== undefined || news.order) showDetail();
  if (news.order || news.found !== undefined || news.counts) showPages();
  tell();
}
function health(state, text) {
  $('health').dataset.state = state;
  $('health').lastElementChild.textContent = text;
}
function showCounts(now) {
  const before = (counts.critical || 0) + '/' + (counts.warning || 0);
  counts = now;
  const total = Object.values(counts).reduce((sum, count) => sum + count, 0);
  const wanted = [['', 'All', total], ...STATES.filter(state => counts[state] || state === look.state)
    .map(state => [state, state, counts[state] || 0])];
  const buttons = [...$('states').children];
  wanted.forEach(([state, word, count], i) => {
    const button = buttons[i] || put($('states'), 'button');
    button.type = 'button';
    button.dataset.state = state;
    button.setAttribute('aria-pressed', String(state === look.state));
    button.replaceChildren(word);
    put(button, 'b', whole(count));
  });
  buttons.slice(wanted.length).forEach(button => button.remove());
  document.title = (counts.critical || counts.warning ? '(' + ((counts.critical || 0) + (counts.warning || 0)) + ') ' : '') + 'streamd';
  if (before !== (counts.critical || 0) + '/' + (counts.warning || 0))
    $('announce').textContent = plural(counts.critical || 0, 'stream') + ' critical, ' + (counts.warning || 0) + ' at warning';
}
function showRow(key, row) {
  let line = rows.get(key);
  if (!line) {
    line = copy('row');
    line.dataset.key = key;
    rows.set(key, line);
  }
  line.dataset.state = row.state;
  const part = name => line.querySelector(name);
  part('.state path').setAttribute('d', MARKS[row.state]);
  part('.state b').textContent = row.state;
  part('.name').textContent = part('.name').title = row.stream;
  part('.sentence').textContent = row.sentence;
  part('.line').setAttribute('d', trace(row.trace));
  const run = row.step !== undefined;
  line.classList.toggle('run', run);
  part('.limit').setAttribute('d', run ? gaps(row.trace) : 'M0 ' + height(row.trace, THRESHOLD) + 'H120');
  part('.limit').toggleAttribute('hidden', !row.trace.length);
  const value = part('.value');
  value.replaceChildren();
  if (run) {
    put(value, 'b', measured(row.loss)).className = typeof row.loss === 'string' ? 'lost' : '';
    value.append(' ' + (row.loss_name || 'no loss'));
    put(value, 'br');
    value.append('step ' + (row.step === null ? '–' : whole(row.step)));
    value.title = 'the last loss and step; the line is the loss so far, red where it was not a number';
  } else if (row.effect !== undefined && row.effect !== null) {
    put(value, 'b', short(row.effect));
    value.append(' limit ' + short(row.threshold));
    put(value, 'br');
    value.append(row.column || words(row.effect_name));
    value.title = row.detector + ': ' + words(row.effect_name) + (row.column ? ' of ' + row.column : '');
  }
  line.heard = row.heard_ms;
}
const height = (points, point) => (30 - 28 * Math.min(1, point / Math.max(2 * THRESHOLD, ...points))).toFixed(1);
const across = (points, i) => (120 - 120 / Math.max(points.length, POINTS_MIN) * (points.length - 1 - i)).toFixed(1);
const trace = points => points.map((point, i) => point === null ? '' :  // right-aligned: the end is now; a short past is stretched
  (i && points[i - 1] !== null ? 'L' : 'M') + across(points, i) + ' ' + height(points, point)).join('') + (points.length === 1 ? 'h-3' : '');
const gaps = points => points.map((point, i) => point === null ? 'M' + across(points, i) + ' 2V30' : '').join('');

function arrange() {
  // Rows are moved only where they must be, and the focus stays on its stream.
  const list = $('list'), focused = document.activeElement;
  for (const [key, line] of rows) if (!order.includes(key)) { line.remove(); rows.delete(key); }
  order.forEach((key, i) => {
    const line = rows.get(key);
    if (line && list.children[i] !== line) list.insertBefore(line, list.children[i] || null);
  });
  if (focused && focused !== document.activeElement && focused.isConnected) focused.focus({preventScroll: true});
}
function showPages() {
  const first = look.offset + 1, last = look.offset + order.length;
  $('pages').hidden = found <= PAGE;
  $('shown').textContent = whole(first) + ' to ' + whole(last) + ' of ' + whole(found);
  $('before').disabled = look.offset === 0;
  $('after').disabled = last >= found;
  $('empty').hidden = found > 0;
  $('head').hidden = found === 0;
  $('empty').textContent = look.search || look.state ? 'No stream is like that.' : 'No stream yet. The first batch, or the first step of a training run, makes one.';
}

// --- One stream ---

function showDetail() {
  for (const [key, line] of rows) {
    const isOpen = key === look.open && detail !== null && detail.key === key;
    const button = line.firstElementChild;
    button.setAttribute('aria-expanded', String(isOpen));
    let panel = line.querySelector('.detail');
    if (!isOpen) { if (panel) panel.remove(); button.removeAttribute('aria-controls'); continue; }
    if (!panel) {
      panel = line.appendChild(copy('opened'));
      panel.id = 'detail';
      button.setAttribute('aria-controls', 'detail');
    }
    panel.setAttribute('aria-label', detail.stream);
    fill(panel);
  }
}
function fill(panel) {
  const part = name => panel.querySelector(name);
  part('.alerts').replaceChildren();
  for (const alert of detail.firing) {
    const item = put(part('.alerts'), 'li');
    item.dataset.state = alert.severity;
    put(item, 'b', alert.severity);
    item.append(alert.summary.startsWith(detail.stream + ': ') ? alert.summary.slice(detail.stream.length + 2) : alert.summary);
    put(item, 'time', 'since ' + at(alert.started_at_ms));
  }
  if (detail.run) curve(panel, detail.run.loss, detail.losses); else picture(panel, detail.histogram);
  const body = part('tbody');
  body.replaceChildren();
  for (const judgement of detail.judgements) {
    const worst = judgement.columns[0], line = put(body, 'tr');
    line.dataset.state = judgement.severity;
    put(line, 'td', judgement.detector);
    put(line, 'td', worst ? worst.name : '–');
    put(line, 'td', words(judgement.effect_name), 'effect');
    put(line, 'td', worst ? short(worst.effect) : '–', 'number');
    put(line, 'td', short(judgement.effect_threshold), 'number');
    put(line, 'td', worst ? worst.p_value !== null && worst.p_value < 1e-99 ? '<1e-99' : short(worst.p_value) : '–', 'number');
    line.title = judgement.finding;
  }
  part('table').hidden = !detail.judgements.length;
  const metrics = detail.run ? Object.entries(detail.run.metrics) : [];
  part('.metrics').hidden = !metrics.length;
  part('.metrics').replaceChildren();
  for (const [name, number] of metrics.slice(0, METRICS_MAX)) {
    const line = put(part('.metrics'), 'tr');
    put(line, 'td', name);
    put(line, 'td', measured(number), typeof number === 'string' ? 'number lost' : 'number');
  }
  part('.scroll').hidden = !detail.judgements.length && !metrics.length;
  part('dl').replaceChildren();
  for (const [term, value] of [...detail.run ? aboutRun(detail.run) : aboutStream(detail), ['Last event', at(detail.event_time_ms)],
    ['Partition', detail.topic + '/' + detail.partition]]) {
    const pair = put(part('dl'), 'div');
    put(pair, 'dt', term);
    put(pair, 'dd', value);
  }
  part('.notes').replaceChildren();
  for (const note of detail.notes) put(part('.notes'), 'li', note);
}
const aboutStream = stream => [['Reference', stream.reference || 'none yet'], ['Rows', whole(stream.rows)], ['Batches', whole(stream.batches)]];
const aboutRun = run => [['Step', run.step === null ? '–' : whole(run.step)], ['Values that were not numbers', whole(run.nonfinite)],
  ['Commands', run.commands.map(each => each.command + ' × ' + each.times + (each.mode === 'shadow' ? ' in shadow' : '')).join(', ') || 'none'],
  ['Answers', Object.entries(run.answers).map(([word, times]) => (word === 'none' ? 'not in time' : word) + ' × ' + times).join(', ') || 'none'],
  ...run.ended === null ? [] : [['Over', run.ended]]];
function curve(panel, name, losses) {
  const figure = panel.querySelector('.picture'), known = losses.filter(loss => typeof loss === 'number');
  figure.querySelector('figcaption').textContent = losses.length ? name : 'No loss to show';
  figure.classList.toggle('without', !losses.length);
  figure.querySelector('.legend').hidden = true;
  if (!losses.length) return figure.querySelector('.bars').replaceChildren();
  const drawing = copy('numbers'), svg = drawing.firstElementChild, least = Math.min(...known), most = Math.max(...known);
  const x = i => (520 * i / Math.max(1, losses.length - 1)).toFixed(1);
  const y = loss => (most > least ? 145 - 140 * (loss - least) / (most - least) : 75).toFixed(1);
  const finite = loss => typeof loss === 'number';
  svg.classList.add('curve');
  svg.querySelector('.reference').setAttribute('d', losses.map((loss, i) => finite(loss) ? '' : 'M' + x(i) + ' 0V150').join(''));
  svg.querySelector('.window').setAttribute('d', losses.map((loss, i) => !finite(loss) ? '' :
    (i && finite(losses[i - 1]) ? 'L' : 'M') + x(i) + ' ' + y(loss)).join(''));
  const texts = drawing.lastElementChild.children;
  texts[0].textContent = 'first ' + measured(losses[0]);
  texts[1].textContent = known.length ? 'least ' + measured(least) + ', most ' + measured(most) : '';
  texts[2].textContent = 'now ' + measured(losses[losses.length - 1]);
  svg.setAttribute('aria-label', name + ' so far: ' + [...texts].map(text => text.textContent).join(', '));
  figure.querySelector('.bars').replaceChildren(drawing);
}
function picture(panel, histogram) {
  const figure = panel.querySelector('.picture');
  figure.querySelector('figcaption').textContent = histogram ? histogram.column : 'No reference and window to show yet';
  figure.classList.toggle('without', !histogram);
  figure.querySelector('.legend').hidden = !histogram;
  if (!histogram) return figure.querySelector('.bars').replaceChildren();
  figure.querySelector('.was').textContent = 'reference, ' + plural(histogram.reference_rows, 'row');
  figure.querySelector('.now').textContent = 'now, ' + plural(histogram.window_rows, 'row');
  const bars = figure.querySelector('.bars');
  bars.replaceChildren(...histogram.labels.length ? categories(histogram) : [numbers(histogram)]);
}
function numbers(histogram) {
  const drawing = copy('numbers'), svg = drawing.firstElementChild, bars = histogram.reference.length, width = 520 / bars;
  const most = Math.max(...histogram.reference, ...histogram.window, 1e-9);
  const y = share => (150 - 140 * share / most).toFixed(1);
  const x = i => (i * width).toFixed(1);
  svg.querySelector('.reference').setAttribute('d', histogram.reference.map((share, i) =>
    'M' + x(i) + ' 150V' + y(share) + 'H' + (i * width + width - 1).toFixed(1) + 'V150Z').join(''));
  svg.querySelector('.window').setAttribute('d',
    'M0 150' + histogram.window.map((share, i) => 'V' + y(share) + 'H' + x(i + 1)).join('') + 'V150');
  const edges = histogram.edges, texts = drawing.lastElementChild.children;
  texts[0].textContent = '< ' + short(edges[0]);
  texts[1].textContent = short(edges[(edges.length - 1) / 2]);
  texts[2].textContent = '> ' + short(edges[edges.length - 1]);
  svg.setAttribute('aria-label', histogram.column + ' from ' + short(edges[0]) + ' to ' + short(edges[edges.length - 1]) +
    ': shares of rows, reference and now');
  return drawing;
}
function categories(histogram) {
  const most = Math.max(...histogram.reference, ...histogram.window, 1e-9);
  return histogram.labels.map((label, i) => {
    const was = histogram.reference[i], now = histogram.window[i];
    const line = copy('category');
    line.firstElementChild.textContent = line.firstElementChild.title = label;
    line.querySelector('.reference').setAttribute('width', 100 * was / most);
    line.querySelector('.window').setAttribute('width', 100 * now / most);
    line.lastElementChild.textContent = (100 * was).toFixed(1) + ' → ' + (100 * now).toFixed(1) + ' %';
    return line;
  });
}

// --- Hands ---

$('list').addEventListener('click', event => {
  const button = event.target.closest('.row');
  if (!button) return;
  const key = button.parentElement.dataset.key;
  detail = null;
  change({open: key === look.open ? '' : key});
  showDetail();
});
$('states').addEventListener('click', event => {
  const button = event.target.closest('button');
  if (button) { change({state: button.dataset.state, offset: 0}); showCounts(counts); }
});
$('search').value = look.search;
$('search').addEventListener('input', () => {
  clearTimeout($('search').wait);
  $('search').wait = setTimeout(() => change({search: $('search').value, offset: 0}), 200);
});
$('controls').addEventListener('submit', event => event.preventDefault());
for (const [id, step] of [['before', -PAGE], ['after', PAGE]])
  $(id).addEventListener('click', () => { change({offset: Math.max(0, look.offset + step)}); scrollTo(0, 0); });
document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = document.activeElement === $('search');
  if (event.key === '/' && !typing) { $('search').focus(); event.preventDefault(); return; }
  if (event.key === 'Escape' && typing) { $('search').value = ''; change({search: '', offset: 0}); return; }
  if (event.key === 'Escape' && look.open) { detail = null; change({open: ''}); showDetail(); return; }
  const buttons = [...document.querySelectorAll('.row')], now = buttons.indexOf(document.activeElement);
  const next = {ArrowDown: now + 1, ArrowUp: now - 1, Home: 0, End: buttons.length - 1}[event.key];
  if (next === undefined || !buttons.length || (typing && event.key !== 'ArrowDown')) return;
  if (now < 0 && !typing && event.key !== 'ArrowDown') return;  // the page scrolls as ever
  if (next < 0) $('search').focus(); else (buttons[next] || buttons[now]).focus();
  event.preventDefault();
});

// --- Time ---

function tell() {
  for (const line of rows.values()) line.querySelector('.heard').textContent = line.heard === null ? 'never' : ago(line.heard);
}
setInterval(() => {
  tell();
  if (source && Date.now() - heardAt > SILENT_MS) lost();
}, 1000);
// A page that nobody sees gives its place to another.
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) return connect();
  clearTimeout(timer);
  if (source) source.close();
  source = null;
});
connect();
