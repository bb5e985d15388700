// Draws figures in the page's colours and width, those in sight first and the rest when idle; sorts and filters tables;
// switches light and dark.
const specs = JSON.parse(document.getElementById("specs").textContent);
const configs = JSON.parse(document.getElementById("configs").textContent);
const root = document.documentElement;
const prefersDark = matchMedia("(prefers-color-scheme: dark)");

const NARROW = 480; // pixels of a figure

const PAPER = 640; // pixels of a figure on paper
let printing = false;

const mode = () => (printing ? "light" : root.dataset.theme || (prefersDark.matches ? "dark" : "light"));

// A page opened from disk may have no storage.
const remember = (value) => { try { localStorage.setItem("recsys-lab-theme", value); } catch { /* not kept */ } };
const remembered = () => { try { return localStorage.getItem("recsys-lab-theme"); } catch { return null; } };

function configFor(spec, width) {
  const config = structuredClone(configs[mode()]);
  const longest = 7 * (spec.usermeta?.longest ?? 0) + 40; // pixels of a legend entry, about
  const room = width < NARROW ? 0.62 * width : width - 60; // a legend begins below the plot, right of the names
  config.legend.columns = Math.max(1, Math.floor(room / longest));
  config.legend.labelLimit = Math.max(80, width - 40);
  if (width < NARROW) {
    config.legend = { ...config.legend, labelFontSize: 11, labelLimit: Math.max(80, 0.38 * width) };
  }
  config.axisY = { labelLimit: Math.max(90, Math.round(width * 0.42)) };
  config.title = { ...config.title, limit: width };
  config.axisX = { titleLimit: width, labelOverlap: true };
  return config;
}

async function drawOnce(element) {
  const name = element.dataset.figure;
  const width = element.clientWidth;
  if (!width) return;
  element.dataset.width = width;
  const spec = structuredClone(specs[name]);
  if (width < NARROW) spec.height *= Math.max(1, (16 * (spec.usermeta?.lines ?? 1)) / 22); // names stand in lines
  const view = await vegaEmbed(element, spec, {
    config: configFor(spec, width),
    renderer: "svg",
    ast: true, // no eval
    actions: { export: true, source: false, compiled: false, editor: false },
    downloadFileName: name,
    tooltip: { theme: mode() },
  });
  element.view?.finalize();
  element.view = view;
  element.dataset.drawn = mode();
}

const charts = [...document.querySelectorAll(".chart")];

// One drawing of a chart after the other: two at once would both append.
function draw(element) {
  element.drawing = (element.drawing ?? Promise.resolve()).catch(() => {}).then(() => drawOnce(element));
  return element.drawing;
}

const NEAR = 800; // pixels beyond the window
const begun = new Set();
const begin = (element) => {
  if (begun.has(element) || !element.clientWidth) return null; // no width: in a closed part
  begun.add(element);
  observer.unobserve(element);
  return draw(element);
};
const observer = new IntersectionObserver((entries) => {
  entries.filter((entry) => entry.isIntersecting).forEach((entry) => begin(entry.target));
}, { rootMargin: `${NEAR}px` });
charts.forEach((element) => observer.observe(element));

// What is in sight is drawn at once: a picture taken on load is taken before the observer's first word.
const tops = charts.map((element) => element.getBoundingClientRect().top);
charts.forEach((element, place) => { if (tops[place] < innerHeight + NEAR) begin(element); });

// The rest one by one while nothing else is to do, so that a picture of the page or a saved page has them all.
const whenIdle = window.requestIdleCallback ? (work) => requestIdleCallback(work, { timeout: 500 }) : (work) => setTimeout(work, 50);
async function drawNext() {
  const next = charts.find((element) => !begun.has(element) && element.clientWidth);
  if (!next) return;
  try { await begin(next); } finally { whenIdle(drawNext); }
}
const afterLoad = () => whenIdle(drawNext);
if (document.readyState === "complete") afterLoad(); else addEventListener("load", afterLoad);

const drawn = () => charts.filter((element) => element.dataset.drawn);
const redraw = () => Promise.all(drawn().map(draw));
window.drawAll = () => Promise.all(charts.map(draw));

document.getElementById("theme").addEventListener("click", () => {
  root.dataset.theme = mode() === "dark" ? "light" : "dark";
  remember(root.dataset.theme);
  redraw();
});
prefersDark.addEventListener("change", redraw);

let waiting;
addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => drawn().filter((e) => e.clientWidth !== Number(e.dataset.width)).forEach(draw), 200);
});

// Paper has all parts, in light colours. Drawing takes microtasks alone, which end before the browser lays the paper out.
let opened = [];
addEventListener("beforeprint", () => {
  printing = true;
  opened = [...document.querySelectorAll("details:not([open])")].filter((one) => !one.closest(".chart"));
  opened.forEach((one) => { one.open = true; });
  charts.forEach((one) => { one.style.width = `${PAPER}px`; });
  window.drawAll();
});
addEventListener("afterprint", () => {
  printing = false;
  charts.forEach((one) => { one.style.width = ""; });
  redraw();
  opened.forEach((one) => { one.open = false; });
});

// A link to a section opens it.
function openTarget() {
  const fold = location.hash && document.getElementById(location.hash.slice(1))?.querySelector(":scope > details.fold");
  if (fold) fold.open = true;
}
addEventListener("hashchange", openTarget);
openTarget();
document.querySelectorAll("nav a").forEach((link) => link.addEventListener("click", () => setTimeout(openTarget)));

function sortBy(header) {
  const table = header.closest("table");
  const column = [...header.parentNode.children].indexOf(header);
  const isNumber = header.classList.contains("number");
  const before = header.getAttribute("aria-sort");
  // numbers begin with the largest, words with a
  const descends = before ? before === "ascending" : isNumber;
  for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", descends ? "descending" : "ascending");
  const body = table.tBodies[0];
  const key = (row) => {
    const cell = row.cells[column];
    return isNumber ? (cell.dataset.value === undefined ? null : Number(cell.dataset.value)) : cell.textContent.trim();
  };
  const compare = (a, b) => (isNumber ? a - b : a.localeCompare(b, undefined, { numeric: true }));
  [...body.rows]
    .map((row) => ({ row, key: key(row) }))
    .sort((a, b) => {
      if (a.key === null || b.key === null) return (a.key === null) - (b.key === null); // unknown ones last
      return descends ? compare(b.key, a.key) : compare(a.key, b.key);
    })
    .forEach(({ row }) => body.append(row));
}
document.querySelectorAll(".sortable thead button").forEach((button) => {
  button.addEventListener("click", () => sortBy(button.parentNode));
});

// Leaves the rows that hold every word, in any case.
document.querySelectorAll(".filter input").forEach((field) => {
  let table = field.closest(".filter");
  while (!table.classList.contains("scroll")) table = table.nextElementSibling;
  const rows = [...table.querySelectorAll("tbody tr")];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const said = field.closest(".filter").querySelector("output");
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    rows.forEach((row, place) => { row.hidden = !words.every((word) => texts[place].includes(word)); });
    said.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
  });
});
root.dataset.ready = "yes";
