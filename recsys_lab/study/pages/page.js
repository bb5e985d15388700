// Draws figures when they come near, in the page's colours and width; sorts tables; switches light and dark.
const specs = JSON.parse(document.getElementById("specs").textContent);
const configs = JSON.parse(document.getElementById("configs").textContent);
const root = document.documentElement;
const prefersDark = matchMedia("(prefers-color-scheme: dark)");

const mode = () => root.dataset.theme || (prefersDark.matches ? "dark" : "light");

// A page opened from disk may have no storage.
const remember = (value) => { try { localStorage.setItem("recsys-lab-theme", value); } catch { /* not kept */ } };
const remembered = () => { try { return localStorage.getItem("recsys-lab-theme"); } catch { return null; } };

function configFor(spec, width) {
  const config = structuredClone(configs[mode()]);
  const longest = 7 * (spec.usermeta?.longest ?? 0) + 40; // pixels of a legend entry, about
  config.legend.columns = Math.max(1, Math.floor(width / longest));
  config.legend.labelLimit = Math.max(80, width - 40);
  config.axisY = { labelLimit: Math.max(90, Math.round(width * 0.42)) };
  config.title = { ...config.title, limit: width };
  config.axisX = { titleLimit: width, labelOverlap: true };
  return config;
}

async function draw(element) {
  const name = element.dataset.figure;
  const width = element.clientWidth;
  if (!width) return;
  element.dataset.width = width;
  const spec = specs[name];
  const view = await vegaEmbed(element, structuredClone(spec), {
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
const observer = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (entry.isIntersecting) {
      observer.unobserve(entry.target);
      draw(entry.target);
    }
  }
}, { rootMargin: "800px" });
charts.forEach((element) => observer.observe(element));

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
addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach((element) => { element.open = true; });
  window.drawAll();
});

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
root.dataset.ready = "yes";
