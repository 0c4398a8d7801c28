// The crosshair of the plots. Without it the page says the same, only less exactly.
"use strict";
for (const figure of document.querySelectorAll("figure.plot")) {
  const svg = figure.querySelector("svg");
  const source = figure.querySelector("script");
  if (!svg || !source) continue;
  const data = JSON.parse(source.textContent);
  const cursor = svg.querySelector(".cursor");
  const line = cursor.querySelector("path");
  const dots = cursor.querySelectorAll("circle");
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  figure.append(tip);
  dots.forEach((dot, k) => dot.setAttribute("class", data.s[k].c));

  const nearest = (x) => {
    let best = 0;
    data.x.forEach((at, i) => {
      if (Math.abs(at - x) < Math.abs(data.x[best] - x)) best = i;
    });
    return best;
  };
  const add = (parent, name, text) => {
    const element = document.createElement(name);
    element.textContent = text;
    parent.append(element);
    return element;
  };
  const show = (event) => {
    const box = svg.getBoundingClientRect();
    const scale = box.width / svg.viewBox.baseVal.width;
    const i = nearest((event.clientX - box.left) / scale);
    const x = data.x[i];
    line.setAttribute("transform", `translate(${x} 0)`);
    tip.replaceChildren();
    add(tip, "b", data.t[i]);
    // The last series is drawn on top, so it comes first.
    for (let k = data.s.length - 1; k >= 0; k--) {
      const series = data.s[k];
      const known = series.y[i] !== null;
      dots[k].style.display = known ? "" : "none";
      if (known) {
        dots[k].setAttribute("cx", x);
        dots[k].setAttribute("cy", series.y[i]);
      }
      const row = add(tip, "div", "");
      add(row, "i", "").className = series.c;
      row.append(series.n);
      add(row, "span", series.v[i]);
    }
    figure.classList.add("live");
    tip.hidden = false;  // Before its width is asked for.
    if (data.sum) {
      const row = add(tip, "div", "together");
      add(row, "span", data.sum[i]);
    }
    const outer = figure.getBoundingClientRect();
    const left = box.left - outer.left + x * scale;
    const right = left + 14 + tip.offsetWidth > figure.clientWidth;
    tip.style.left = `${right ? Math.max(4, left - 14 - tip.offsetWidth) : left + 14}px`;
    tip.style.top = `${box.top - outer.top + 8}px`;
  };
  const hide = () => {
    figure.classList.remove("live");
    tip.hidden = true;
  };
  svg.addEventListener("pointermove", show);
  svg.addEventListener("pointerdown", show);
  svg.addEventListener("pointerleave", hide);
}
