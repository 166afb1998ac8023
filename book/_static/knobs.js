"use strict";
// The live knobs: sliders, and the neuron that a reader makes. book/knobs.py writes their tables and their data.
(() => {
  // A number as Python's f"{x:.3f}" writes it; toFixed alone takes a tie up, Python takes it to the even digit.
  function shown(x, digits) {
    if (x === null) return "not measured";
    const exact = x.toFixed(30);
    const end = exact.indexOf(".") + (digits ? digits + 1 : 0);
    const cut = exact.slice(0, end);
    const tie = /^\.?50*$/.test(exact.slice(end));
    return tie && Number(cut.at(-1)) % 2 === 0 ? cut : x.toFixed(digits);
  }

  // By distance, what V, its chance, U and its chance are made of, for one neuron with these counts.
  function weigh(counts, own, distances) {
    const m = counts.reduce((sum, count) => sum + count, 0);
    if (m < 2) return [null, null, null, null].map((none) => distances.map(() => none));
    const pairs = distances.map(() => 0);
    counts.forEach((one, i) => counts.forEach((other, j) => {
      pairs[distances.indexOf(own.between[i][j])] += one * other;
    }));
    const same = (d) => (d === 0 ? 1 : 0);
    return [
      pairs.map((count) => count / (m * m)),
      distances.map((d, k) => same(d) / m + (1 - 1 / m) * own.chance[k]),
      distances.map((d, k) => (pairs[k] - m * same(d)) / (m * (m - 1))),
      own.chance,
    ];
  }

  function make(tag, properties, ...children) {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children);
    return node;
  }

  function start(box) {
    const data = JSON.parse(box.querySelector("script").textContent);
    const output = box.querySelector("output");
    const lines = [...box.querySelectorAll("tbody tr:not(.knob-bar)")];
    const counts = data.own.counts ? [...data.own.counts] : null;
    const slider = make("input", {type: "range", min: 0, max: data.positions.length - 1, step: 1});
    slider.value = data.start;
    // As an attribute too: without it a reset, or a copy of the page, would start elsewhere.
    slider.setAttribute("value", data.start);

    function value(numbers) {
      if (numbers.includes(null) && data.distances.length) return null;
      if (!data.distances.length) return numbers[slider.value];
      const spread = 2 * data.values[slider.value] ** 2;
      return numbers.reduce((sum, w, k) => sum + w * Math.exp(-(data.distances[k] ** 2) / spread), 0);
    }

    function draw() {
      const at = `${data.label} = ${data.positions[slider.value]}`;
      const rows = counts ? [weigh(counts, data.own, data.distances), ...data.rows.slice(1)] : data.rows;
      rows.forEach((row, n) => {
        const values = row.map(value);
        [...lines[n].querySelectorAll("td")].forEach((cell, column) => {
          cell.textContent = shown(values[column], data.digits[column]);
        });
        const bar = lines[n].nextElementSibling;
        const part = (x) => `${100 * Math.max(0, Math.min(1, (x ?? 0) / data.full))}%`;
        bar.querySelector(".knob-value").style.width = part(values[data.bar]);
        bar.querySelector(".knob-mark").style.x = part(values[data.mark]);
      });
      slider.setAttribute("aria-valuetext", at);
      const first = lines[0].querySelector("th").textContent;
      const said = [data.bar, data.mark].map((k) => `${data.columns[k]} ${lines[0].querySelectorAll("td")[k].textContent}`);
      output.textContent = `${at}; ${first}: ${said.join(", ")}`;
    }

    // One class of the reader's neuron: fewer, how many, more.
    function stepper(name, n) {
      const field = make("input", {type: "number", min: 0, max: data.own.most[n], value: counts[n], inputMode: "numeric"});
      field.setAttribute("aria-label", `images of ${name}`);
      const set = (count) => {
        counts[n] = Math.max(0, Math.min(data.own.most[n], Math.trunc(count) || 0));
        draw();
      };
      const step = (by, sign, word) => {
        const button = make("button", {type: "button", textContent: sign});
        button.setAttribute("aria-label", `one ${word} ${name}`);
        button.addEventListener("click", () => { set(counts[n] + by); field.value = counts[n]; });
        return button;
      };
      field.addEventListener("input", () => set(Number(field.value)));
      field.addEventListener("change", () => { field.value = counts[n]; });
      return make("div", {className: "knob-class"}, make("span", {textContent: name}),
        step(-1, "\u2212", "fewer"), field, step(1, "+", "more"));
    }

    slider.addEventListener("input", draw);
    const controls = make("div", {className: "knob-controls"}, make("label", {}, `${data.label} `, slider));
    if (counts) controls.append(...data.own.classes.map(stepper));
    box.prepend(controls);
    draw();
  }

  const all = () => document.querySelectorAll(".knob").forEach(start);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", all);
  else all();
})();
