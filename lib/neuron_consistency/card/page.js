"use strict";
// Draws a card into an element laid out as in page.html. In an atlas, a "layer" is the last one of a network each.
// What comes from outside is set as text, never as markup.

const SHEET = 1024, COLUMNS = 32; // thumbnails of a sprite sheet, and of a line of it, as page.py makes them
const GRID = 8; // fields of a line of a region, as pictures.py makes it
const PER_PAGE = 24, REAL = "real", KINDS = ["true", "predicted"];

const builder = (create) => (tag, attributes = {}, ...children) => {
  const node = create(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};
const html = builder((tag) => document.createElement(tag));
const svg = builder((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));

/** A value as a reader sees it; `name` is its column. */
function shown(name, value) {
  if (value === null || value === undefined || value === "") return "not measured";
  if (typeof value !== "number") return String(value);
  const count = /^(m|images|neuron)\b/.test(name);
  const digits = count ? (Number.isInteger(value) ? 0 : 1) : /^accuracy/.test(name) ? 1 : 4;
  return value.toFixed(digits).replace("-", "−");
}

const measured = (u) =>
  `U ${shown("U", u.value)}` +
  (u.low === null ? "" : ` (${shown("U", u.low)} to ${shown("U", u.high)})`) +
  (u.chance === null ? "" : `, chance ${shown("U", u.chance)}`);

function table(label, heads, rows) {
  const numeric = heads.map((_, i) => i > 0 && rows.some((row) => typeof row[i] === "number"));
  const style = (i, value) => (numeric[i] ? "number" : "") + (value === null ? " missing" : "");
  const head = heads.map((name, i) => html("th", { scope: "col", class: style(i) }, name));
  const cell = (value, i) => html(i ? "td" : "th", i ? { class: style(i, value) } : { scope: "row" }, shown(heads[i], value));
  const body = rows.map((row) => html("tr", {}, ...row.map(cell)));
  return html("table", { "aria-label": label }, html("thead", {}, html("tr", {}, ...head)), html("tbody", {}, ...body));
}

/** A table of all columns, which may be wider than its place. */
function wide(label, columns) {
  const rows = (Object.values(columns)[0] ?? []).map((_, i) => Object.values(columns).map((values) => values[i]));
  const whole = table(label, Object.keys(columns), rows);
  return html("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, whole);
}

const list = (pairs) =>
  html("dl", { class: "facts" }, ...pairs.flatMap(([term, what]) => [html("dt", {}, term), html("dd", {}, what)]));

function fill(select, values, chosen, all = []) {
  select.replaceChildren(...all, ...values.map((value) => html("option", { value }, value)));
  select.value = chosen;
}

/** The range of an axis that holds these numbers, and zero. */
function span(values) {
  const low = values.reduce((a, b) => Math.min(a, b), 0), high = values.reduce((a, b) => Math.max(a, b), 0);
  const edge = 0.04 * (high - low) || 0.5;
  return [low && low - edge, high + edge];
}

const spanOf = (marks) => span(marks.flatMap(({ value, low, high, chance }) => [value, low, high, chance]));
const at = (value, [low, high]) => `${((100 * (value - low)) / (high - low)).toFixed(3)}%`;

function ticks([low, high]) {
  const rough = (high - low) / 7, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((times) => times * power >= rough);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const first = Math.ceil(low / step - 1e-9), count = Math.floor(high / step + 1e-9) - first + 1;
  return Array.from({ length: count }, (_, i) => [(first + i) * step, ((first + i) * step).toFixed(digits)]);
}

function axis(domain, label = "") {
  const numbers = ticks(domain).map(([value, text]) => svg("text", { x: at(value, domain), y: 12 }, text));
  const name = label && svg("text", { x: "50%", y: 28 }, label);
  return svg("svg", { class: "axis", height: label ? 32 : 16, "aria-hidden": "true" }, ...numbers, name);
}

const upright = (style, x, y1, y2) => svg("line", { class: style, x1: x, x2: x, y1, y2 });
const grid = (domain, height) => ticks(domain).map(([value]) => upright("grid", at(value, domain), 0, height));
const colour = (set) => (set === REAL ? "real" : "other");

/** A circle for real images, a square for others; filled by true labels, hollow by predicted ones. */
function symbol({ set, kind }, x, y) {
  const style = `mark ${colour(set)} ${kind}`;
  const circle = svg("circle", { r: 4, class: style });
  const square = svg("rect", { x: -3.5, y: -3.5, width: 7, height: 7, class: style });
  return svg("svg", { x, y, overflow: "visible" }, set === REAL ? circle : square);
}

/** One line a mark: its interval, its symbol, and a tick at its chance level. */
function strip(marks, domain) {
  const line = 11, height = line * marks.length + 4;
  const told = marks.map((mark) => `${mark.set}, ${mark.kind} labels: ${measured(mark)}`).join("\n");
  const picture = svg("svg", { class: "strip", role: "img", height }, svg("title", {}, told), ...grid(domain, height));
  marks.forEach((mark, i) => {
    const y = line * (i + 0.5) + 2, { low, high, chance, value } = mark, style = `interval ${colour(mark.set)}`;
    if (chance !== null) picture.append(upright("chance", at(chance, domain), y - 5, y + 5));
    if (low !== null) picture.append(svg("line", { class: style, x1: at(low, domain), x2: at(high, domain), y1: y, y2: y }));
    if (value !== null) picture.append(symbol(mark, at(value, domain), y));
  });
  return picture;
}

/** How many values fall where, and the chance level. */
function histogram({ counts, chance, told, set }, domain, most) {
  const height = 90, width = 100 / counts.length, class_ = `bar ${colour(set)}`;
  const bars = counts.map((count, i) => {
    const tall = (height * count) / most;
    return svg("rect", { class: class_, x: `${width * i}%`, width: `${0.9 * width}%`, y: height - tall, height: tall });
  });
  const top = svg("line", { class: "grid", x1: 0, x2: "100%", y1: 0, y2: 0 });
  const scale = svg("text", { class: "most", x: "100%", y: 12 }, `${most} neurons`);
  const level = chance === null ? "" : upright("chance", at(chance, domain), 0, height);
  const title = svg("title", {}, told);
  const picture = svg("svg", { role: "img", class: "histogram", height }, title, ...grid(domain, height), top, ...bars, scale, level);
  return html("figure", {}, html("figcaption", {}, told), picture);
}

/** What is no part of a region, as one shape over a picture of 8 by 8 fields; nothing where no region is known. */
function outside(region) {
  if (!/^[0-9a-f]+$/.test(region)) return "";
  const lines = Array.from({ length: GRID }, (_, y) => parseInt(region.slice(2 * y, 2 * y + 2), 16).toString(2).padStart(GRID, "0"));
  const runs = lines.flatMap((line, y) => [...line.matchAll(/0+/g)].map(({ 0: run, index }) => `M${index} ${y}h${run.length}v1h-${run.length}z`));
  return svg("svg", { class: "region", viewBox: `0 0 ${GRID} ${GRID}`, preserveAspectRatio: "none" }, svg("path", { d: runs.join("") }));
}

/** The classes of a neuron's images below what they have in common: nodes with children and the sums of all below. */
function treeOf(ways, counts) {
  const node = (name) => ({ name, below: new Map(), own: false, sums: counts.map(() => 0) });
  const root = node("");
  counts.forEach((of, column) => {
    for (const [place, number] of of) {
      let here = root;
      here.sums[column] += number;
      for (const name of ways[place]) {
        if (!here.below.has(name)) here.below.set(name, node(name));
        here = here.below.get(name);
        here.sums[column] += number;
      }
      here.own = true;
    }
  });
  const rows = [];
  const walk = (here, depth) => {
    while (here.below.size === 1 && !here.own) here = [...here.below.values()][0];
    if (here !== root) rows.push({ ...here, depth });
    for (const child of here.below.values()) walk(child, here === root ? depth : depth + 1);
  };
  walk(root, 0);
  return rows;
}

function neuronCard(root, card) {
  const { neurons, layers, tops, regions, pictures, counts, classes, group } = card;
  const part = (name) => root.querySelector(`[data-part="${name}"]`);
  const on = (name, event, action) => part(name).addEventListener(event, action);
  const names = [...new Set([...layers.layer, ...neurons.layer])];
  const sets = [...new Set(layers.set)].filter((set) => set !== REAL);
  const state = { layer: card.opened[0] ?? names.at(-1) ?? "", beside: card.opened[1] ?? "", compare: sets.includes("FGSM") ? "FGSM" : sets[0], kind: "true" };
  const wanted = { words: "", filter: "", class: "", sort: "U", down: true, page: 0 };
  const all = neurons.layer.map((_, i) => i);
  let orders = [], open = -1; // the neurons that fit, sorted, of each layer shown; the one in the dialog

  // Where a number stands. A set's columns may have a short name: "U noise" for the set "sign noise, same size".
  const rows = new Map(layers.layer.map((layer, i) => [[layer, layers.set[i], layers.labels[i]].join("\n"), i]));
  const ofLayer = (layer, set, kind, column) => layers[column]?.[rows.get([layer, set, kind].join("\n"))] ?? null;
  const shorts = Object.keys(neurons).filter((name) => name.startsWith("m ")).map((name) => name.slice(2));
  const short = (set) => shorts.find((name) => name === set) ?? shorts.find((name) => set.includes(name)) ?? set;
  const column = (what, set, kind = "true") =>
    [what, ...(set === REAL ? [] : [short(set)]), ...(kind === "true" ? [] : [kind])].join(" ");
  const ofNeuron = (i, ...which) => neurons[column(...which)]?.[i] ?? null;
  const title = (i) => `${neurons.layer[i]}/${neurons.neuron[i]}`;
  const heading = (i) => (group === "layer" ? title(i) : `${neurons.layer[i]}: neuron ${neurons.neuron[i]}`);
  const link = (i) => `#${encodeURIComponent(neurons.layer[i])}/${neurons.neuron[i]}`;

  const compared = () => [REAL, state.compare].filter(Boolean);
  const pairs = () => compared().flatMap((set) => KINDS.map((kind) => ({ set, kind })));
  const layerMarks = (layer) => pairs().map(({ set, kind }) => {
    const [value, low, high, chance] = ["U", "U low", "U high", "U chance"].map((name) => ofLayer(layer, set, kind, name));
    return { set, kind, value, low, high, chance };
  });
  const neuronMarks = (i) => pairs().map(({ set, kind }) => {
    const own = (name) => (set === REAL && kind === "true" ? neurons[name]?.[i] ?? null : null);
    const chance = own("U chance") ?? ofLayer(neurons.layer[i], set, kind, "U chance");
    return { set, kind, value: ofNeuron(i, "U", set, kind), low: own("U low"), high: own("U high"), chance };
  });

  const numeric = Object.keys(neurons).filter(
    (name) => name !== "layer" && neurons[name].every((value) => value === null || typeof value === "number"));
  const textual = Object.keys(neurons).filter((name) => name !== "layer" && !numeric.includes(name));
  const sayings = textual.filter((name) => !name.startsWith("top ")); // the top images are shown
  const searched = all.map((i) => [title(i), ...textual.map((name) => neurons[name][i] ?? "")].join("\n").toLowerCase());
  const differences = [["U", "U chance"], ...sets.flatMap((set) => KINDS.map((kind) => [column("U", REAL, kind), column("U", set, kind)]))];
  const above = (i) => neurons["U low"]?.[i] > neurons["U chance"]?.[i];
  const filters = new Map([
    ["all neurons", () => true],
    ["interval of U above chance", above],
    ["interval of U not above chance", (i) => neurons.U[i] !== null && !above(i)],
    ["U not measured", (i) => neurons.U[i] === null],
    ...("concept" in neurons ? [["with a concept", (i) => neurons.concept[i] !== "none"]] : []),
  ]);
  const pairsOf = (name, i) => {
    const flat = counts[name]?.[i] ?? [];
    return flat.flatMap((place, at) => (at % 2 ? [] : [[place, flat[at + 1]]]));
  };
  const className = (place) => classes[place].at(-1);
  const rankOf = new Map(classes.map((way, place) => [way.join("\n"), place]).sort(([a], [b]) => (a < b ? -1 : 1)).map(([, place], rank) => [place, rank]));
  const sorts = new Map([
    ...numeric.map((name) => [name, (i) => neurons[name][i]]),
    ...differences.filter((both) => both.every((name) => name in neurons)).map(([one, other]) => [
      `${one} − ${other}`,
      (i) => (neurons[one][i] === null || neurons[other][i] === null ? null : neurons[one][i] - neurons[other][i]),
    ]),
  ]);

  function drawLayers() {
    const marks = names.map(layerMarks), domain = spanOf(marks.flat());
    const key = (mark, text) => html("li", {}, svg("svg", { width: 16, height: 12, "aria-hidden": "true" }, mark), text);
    part("legend").replaceChildren(
      ...pairs().map((pair) => key(symbol(pair, 8, 6), `${pair.set}, ${pair.kind} labels`)),
      key(svg("line", { class: "interval", x1: 1, x2: 15, y1: 6, y2: 6 }), "interval of 95 %"),
      key(upright("chance", 8, 1, 11), "chance"));
    const buttons = names.map((layer, i) => {
      const attributes = { type: "button", class: "layer", "aria-pressed": layer === state.layer };
      const button = html("button", attributes, html("span", {}, layer), strip(marks[i], domain));
      button.addEventListener("click", () => choose(layer === state.layer ? "" : layer));
      return button;
    });
    const scale = html("div", { class: "layer" }, html("span"), axis(domain, "U, mean over neurons"));
    part("layers").replaceChildren(...buttons, scale);
    part("layers").scrollTop = (buttons[names.indexOf(state.layer)]?.offsetTop ?? 0) - 100;
  }

  function drawSpread() {
    const chosen = all.filter((i) => !state.layer || neurons.layer[i] === state.layer);
    const found = compared().map((set) => {
      const values = chosen.map((i) => ofNeuron(i, "U", set, state.kind)).filter((value) => value !== null);
      const median = values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
      const chance = ofLayer(state.layer || names.at(-1), set, state.kind, "U chance");
      const told = `${set}: ${values.length} of ${chosen.length} neurons measured, median U ${shown("U", median)}, chance ${shown("U", chance)}`;
      return { set, values, chance, told, counts: Array(40).fill(0) };
    });
    const domain = span(found.flatMap(({ values, chance }) => [...values, chance])), width = domain[1] - domain[0];
    for (const { values, counts } of found) for (const value of values) counts[Math.floor((40 * (value - domain[0])) / width)]++;
    const most = Math.max(1, ...found.flatMap(({ counts }) => counts));
    part("spread-of").textContent = ` in ${state.layer || `all ${group}s`}`;
    const panels = found.map((one) => histogram(one, domain, most));
    part("spread").replaceChildren(...panels, axis(domain, `U of a neuron, by ${state.kind} labels`));
  }

  /** The classes of a neuron's images as bars, in the order of the tree. */
  function shares(i) {
    const sets = Object.keys(counts).map((name) => [name, pairsOf(name, i)]), width = 100 / classes.length, height = 17;
    const most = Math.max(1, ...sets.flatMap(([, pairs]) => pairs.map(([, number]) => number)));
    const told = sets.map(([name, pairs]) => `${name}: ${pairs.map(([place, number]) => `${className(place)} ${number}`).join(", ") || "none"}`);
    const bars = sets.flatMap(([name, pairs]) => pairs.map(([place, number]) => {
      const tall = (height * number) / most, x = `${width * (rankOf.get(place) + 0.1)}%`;
      const style = name === REAL ? "bar real" : name.endsWith(" predicted") ? "predicted" : "bar other";
      return svg("rect", { class: style, x, width: `${0.8 * width}%`, y: name === REAL ? height - tall : height, height: tall });
    }));
    const middle = svg("line", { class: "grid", x1: 0, x2: "100%", y1: height, y2: height });
    return svg("svg", { class: "shares", role: "img", height: 2 * height + 1 }, svg("title", {}, told.join("\n")), middle, ...bars);
  }

  /** The same as a tree, with the number of images at and below each node. */
  function tree(i) {
    const sets = Object.keys(counts), heads = sets.map((name) => (name === REAL ? REAL : name.endsWith(" predicted") ? name.replace(" ", ", ") : `${name}, true`));
    const rows = treeOf(classes, sets.map((name) => pairsOf(name, i))).map(({ name, own, depth, sums }) => {
      const head = html("th", { scope: "row" }, name);
      head.style.setProperty("--depth", depth);
      return html("tr", { class: own ? "" : "above" }, head, ...sums.map((sum) => html("td", { class: "number" }, sum || "")));
    });
    const top = html("tr", {}, ...["class", ...heads].map((name, at) => html("th", { scope: "col", class: at ? "number" : "" }, name)));
    const whole = html("table", { class: "tree", "aria-label": "Active images by class" }, html("thead", {}, top), html("tbody", {}, ...rows));
    return html("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Active images by class" }, whole);
  }

  /** A thumbnail above the class that the network predicts; `whole` also tells the file and the true class. */
  function picture(set, index, region, whole) {
    const [tile, file, truth, predicted] = pictures[index], wrong = predicted === truth ? "" : "wrong";
    const sheet = tile === null ? "" : ` sheet${Math.floor(tile / SHEET)}`;
    const thumb = html("span", { class: `thumb${sheet}`, role: "img", "aria-label": `${file || `image ${index}`}, ${set}` }, outside(region));
    thumb.style.setProperty("--column", (tile ?? 0) % COLUMNS);
    thumb.style.setProperty("--line-of-sheet", Math.floor(((tile ?? 0) % SHEET) / COLUMNS));
    const lines = whole ? [file, `true: ${truth}`, `predicted: ${predicted}`] : [wrong ? `✗ ${predicted}` : predicted];
    const spans = lines.map((line, i) => html("span", { class: i === lines.length - 1 ? wrong : "" }, line));
    const hint = `${file}\ntrue: ${truth}\npredicted: ${predicted}`;
    return html("figure", { title: hint }, thumb, html("figcaption", {}, ...spans));
  }

  const gallery = (i, whole) => Object.keys(tops).flatMap((set) => {
    const found = tops[set][i].map((index, rank) => [index, regions[set][i].slice(2 * GRID * rank, 2 * GRID * (rank + 1))]);
    const head = html(whole ? "h3" : "p", { class: "of" }, `strongest images, ${set}${whole ? "" : "; predicted class"}`);
    const shownHere = found.filter(([index]) => index >= 0).slice(0, whole ? undefined : 6).map((one) => picture(set, ...one, whole));
    return [head, html("div", { class: "pictures" }, ...(shownHere.length ? shownHere : ["none: it does not fire"]))];
  });

  const numbers = (i, which) => table(
    `U and active images of ${heading(i)}`, ["set", "U, true labels", "U, predicted", "m"],
    which.map((set) => [set, ...KINDS.map((kind) => ofNeuron(i, "U", set, kind)), ofNeuron(i, "m", set)]));

  function cardOf(i, domain, key) {
    const marks = neuronMarks(i), told = /^(U|m|U predicted)$/.test(wanted.sort) ? "" : `${wanted.sort}: ${shown(wanted.sort, key)}`;
    return html("li", {},
      html("h3", {}, html("a", { href: link(i) }, heading(i))), html("p", { class: "key" }, told),
      html("p", {}, measured(marks[0])), strip(marks, domain), axis(domain), numbers(i, compared()),
      ...sayings.map((name) => html("p", {}, `${name}: ${neurons[name][i] || "none"}`)),
      Object.keys(counts).length ? shares(i) : "", ...gallery(i, false));
  }

  function drawNeurons() {
    const words = wanted.words.toLowerCase().split(/\s+/).filter(Boolean), sign = wanted.down ? -1 : 1;
    const fits = (word, i) => (/^\d+$/.test(word) ? String(neurons.neuron[i]) === word : searched[i].includes(word));
    const keys = all.map(sorts.get(wanted.sort) ?? (() => null));
    const keep = filters.get(wanted.filter) ?? (() => true), most = wanted.class;
    const fit = all.filter((i) => keep(i) && (!most || String(counts[REAL][i][0]) === most) && words.every((word) => fits(word, i)));
    fit.sort((a, b) => (keys[a] === null) - (keys[b] === null) || sign * (keys[a] - keys[b]) || a - b);
    const shown = [state.layer, state.beside].slice(0, state.beside ? 2 : 1);
    orders = shown.map((layer) => fit.filter((i) => !layer || neurons.layer[i] === layer));
    const longest = Math.max(...orders.map(({ length }) => length)), size = PER_PAGE / shown.length;
    const last = Math.max(0, Math.ceil(longest / size) - 1), page = Math.min(wanted.page, last), from = page * size;
    const parts = orders.map((order) => order.slice(from, from + size)), domain = spanOf(parts.flat().flatMap(neuronMarks));
    const rows = Array.from({ length: Math.max(...parts.map(({ length }) => length)) }, (_, rank) => parts.map((part) => part[rank]));
    part("cards").replaceChildren(...rows.flat().map((i) => (i === undefined ? html("li") : cardOf(i, domain, keys[i]))));
    part("cards").classList.toggle("pairs", shown.length > 1);
    part("beside-note").hidden = shown.length < 2;
    const told = `${from + 1} to ${from + rows.length} of ${orders.map(({ length }) => length).join(" and ")} neurons`;
    part("status").textContent = longest ? told : "No neuron fits.";
    for (const name of ["previous", "previous-below"]) part(name).disabled = page === 0;
    for (const name of ["next", "next-below"]) part(name).disabled = page === last;
    part("direction").textContent = wanted.down ? "largest first" : "smallest first";
  }

  function show(i) {
    if (!orders.flat().includes(i)) {
      Object.assign(wanted, { filter: "", class: "" });
      part("filter").selectedIndex = part("class").selectedIndex = 0;
      choose(neurons.layer[i], "");
    }
    const order = orders.find((some) => some.includes(i));
    open = i;
    const marks = neuronMarks(i), domain = spanOf(marks), told = [REAL, ...sets];
    const inTable = told.flatMap((set) => [column("m", set), ...KINDS.map((kind) => column("U", set, kind))]);
    const rest = [...numeric, ...sayings].filter((name) => name !== "neuron" && !inTable.includes(name));
    part("neuron").replaceChildren(
      html("h2", {}, heading(i)), strip(marks, domain), axis(domain, "U"), numbers(i, told),
      list(rest.map((name) => [name, shown(name, neurons[name][i])])), ...gallery(i, true),
      ...(Object.keys(counts).length ? [html("h3", { class: "of" }, "classes of its active images, on the tree"), tree(i)] : []));
    part("before").disabled = order.indexOf(i) === 0;
    part("after").disabled = order.indexOf(i) === order.length - 1;
    if (!part("dialog").open) part("dialog").showModal();
    part("dialog").scrollTop = 0;
  }

  function follow() {
    let name = location.hash.slice(1);
    try { name = decodeURIComponent(name); } catch { /* no encoding of ours, so no neuron */ }
    const i = all.find((j) => title(j) === name);
    if (i !== undefined) return show(i);
    part("dialog").close();
    if (name) part("status").textContent = `There is no neuron ${name}.`;
  }

  function choose(layer, words = wanted.words) {
    state.layer = part("layer").value = layer;
    part("search").value = words;
    part("layers").querySelectorAll("button").forEach((button, i) => button.setAttribute("aria-pressed", names[i] === layer));
    drawSpread();
    want({ words });
  }

  function want(change) {
    Object.assign(wanted, { page: 0 }, change);
    drawNeurons();
  }

  function step(by) {
    const order = orders.find((some) => some.includes(open)), i = order[order.indexOf(open) + by];
    history.replaceState(null, "", link(i));
    show(i);
  }

  part("title").textContent = card.title;
  part("reading").textContent = card.reading;
  part("facts").append(list(card.facts));
  const { set, images, accuracy } = card.accuracy;
  const bounds = ["low", "high"].map((name) => card.accuracy[name] ?? card.accuracy[`accuracy ${name}`] ?? []);
  const interval = (i) => bounds.map((values) => shown("accuracy", values[i])).join(" to ");
  const accuracies = set.map((name, i) => [name, images[i], accuracy[i], interval(i)]);
  part("accuracy").append(table("Accuracy", ["set", "images", "accuracy, %", "interval"], accuracies));
  part("layer-table").append(wide(`${group}s`, Object.fromEntries(Object.entries(layers).map(([name, values]) => [name === "layer" ? group : name, values]))));
  fill(part("compare"), sets, state.compare);
  part("compare-label").hidden = !sets.length;
  fill(part("layer"), names, state.layer, [html("option", { value: "" }, "all")]);
  fill(part("beside"), names, state.beside, [html("option", { value: "" }, "nothing")]);
  fill(part("filter"), [...filters.keys()], "all neurons");
  const byName = classes.map((_, place) => place).sort((a, b) => className(a).localeCompare(className(b)));
  part("class").replaceChildren(html("option", { value: "" }, "any"), ...byName.map((place) => html("option", { value: place }, className(place))));
  part("class").parentElement.hidden = !counts[REAL];
  fill(part("sort"), [...sorts.keys()], wanted.sort);
  on("compare", "change", ({ target }) => { state.compare = target.value; drawLayers(); choose(state.layer); });
  on("labels", "change", ({ target }) => { state.kind = target.value; drawSpread(); });
  on("layer", "change", ({ target }) => choose(target.value));
  on("beside", "change", ({ target }) => { state.beside = target.value; want({}); });
  on("filter", "change", ({ target }) => want({ filter: target.value }));
  on("class", "change", ({ target }) => want({ class: target.value }));
  on("regions", "change", ({ target }) => root.classList.toggle("plain", !target.checked));
  on("search", "input", ({ target }) => want({ words: target.value }));
  on("sort", "change", ({ target }) => want({ sort: target.value }));
  on("direction", "click", () => want({ down: !wanted.down }));
  for (const [name, by] of [["previous", -1], ["next", 1]]) {
    on(name, "click", () => want({ page: wanted.page + by }));
    on(`${name}-below`, "click", () => { want({ page: wanted.page + by }); part("status").scrollIntoView(); });
  }
  on("before", "click", () => step(-1));
  on("after", "click", () => step(1));
  on("dialog", "close", () => history.replaceState(null, "", location.href.split("#")[0]));
  addEventListener("hashchange", follow);
  drawLayers();
  choose(state.layer);
  follow();
}

try { document.documentElement.dataset.theme = localStorage.getItem("theme") ?? ""; } catch { /* then as the system */ }
neuronCard(document.querySelector(".neuron-card"), JSON.parse(document.getElementById("neuron-card-data").textContent));
