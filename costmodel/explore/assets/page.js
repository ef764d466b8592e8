// What needs no server: address, tabs, sliders, theme, pictures.
(() => {
  // Defined by Dash, after this file.
  const unchanged = () => window.dash_clientside.no_update;

  function nearest(lengths, value) {
    let best = 0;
    lengths.forEach((length, index) => {
      if (Math.abs(length - value) < Math.abs(lengths[best] - value)) best = index;
    });
    return best;
  }

  function isDark() {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }

  // On a white ground with dark texts, whatever the page's theme; one file a figure.
  function save(plot, index) {
    const caption = plot.closest("figure").querySelector("figcaption").textContent;
    const layout = { ...plot.layout, paper_bgcolor: "#ffffff", plot_bgcolor: "#ffffff", title: { text: caption } };
    layout.font = { ...(layout.font || {}), color: "#33383e" };
    layout.margin = { ...(layout.margin || {}), t: 56 };
    layout.height = (plot.layout.height || 460) + 30;
    delete layout.width;
    const options = { format: "png", width: 860, height: layout.height, scale: 2 };
    return Plotly.toImage({ data: plot.data, layout }, options).then((url) => {
      const link = document.createElement("a");
      link.href = url;
      link.download = `costmodel-${plot.parentElement.id || index}.png`;
      link.click();
    });
  }

  window.dash_clientside = window.dash_clientside || {};
  window.dash_clientside.page = {
    address(query) {
      if (query === undefined || query === null) return unchanged();
      const place = location.pathname + (query ? `?${query}` : "");
      history.replaceState(history.state, "", place);
      return location.origin + place;
    },

    choose() {
      const clicked = window.dash_clientside.callback_context.triggered[0];
      return clicked && clicked.value ? clicked.prop_id.split(".")[0].split("--")[1] : unchanged();
    },

    press(value) {
      return window.dash_clientside.callback_context.outputs_list.map((o) => String(o.id.endsWith(`--${value}`)));
    },

    show(view) {
      const shown = window.dash_clientside.callback_context.outputs_list.map((o) => o.id !== `view-${view}`);
      // Figures that were drawn while hidden take their width now.
      requestAnimationFrame(() => window.dispatchEvent(new Event("resize")));
      return shown;
    },

    length(slider, tokens, lengths) {
      const from = window.dash_clientside.callback_context.triggered.map((each) => each.prop_id);
      if (from.length === 1 && from[0].includes("-slider.")) {
        const chosen = lengths[Number(slider)];
        return [chosen === tokens || nearest(lengths, tokens) === Number(slider) ? unchanged() : chosen, unchanged()];
      }
      return [unchanged(), nearest(lengths, tokens)];
    },

    theme() {
      const next = isDark() ? "light" : "dark";
      document.documentElement.dataset.theme = next;
      try { localStorage.setItem("theme", next); } catch { /* it lasts until the page is left */ }
      return unchanged();
    },

    configuration(clicks) {
      const open = clicks % 2 === 1;
      return [open ? "sidebar open" : "sidebar", String(open)];
    },

    pictures() {
      const drawn = [...document.querySelectorAll(".js-plotly-plot")].filter((plot) => (plot.data || []).length);
      drawn.reduce((before, plot, index) => before.then(() => save(plot, index)), Promise.resolve());
      return unchanged();
    },
  };

  // Dash's menus give the Tab key a hidden box instead of their button, and the button no label; its file box has no
  // name.
  function mend() {
    document.querySelectorAll(".dash-dropdown-focus-target[tabindex='0']").forEach((box) => { box.tabIndex = -1; });
    document.querySelectorAll("button.dash-dropdown").forEach((menu) => {
      if (menu.tabIndex < 0) menu.tabIndex = 0;
      const named = menu.getAttribute("aria-labelledby") || "";
      if (!named.includes("-label")) menu.setAttribute("aria-labelledby", `${menu.id}-label ${named}`.trim());
    });
    const file = document.querySelector("#upload input[type=file]:not([aria-label])");
    if (file) { file.setAttribute("aria-label", "Trace file"); file.tabIndex = -1; }
  }
  new MutationObserver(mend).observe(document.documentElement, { childList: true, subtree: true });
})();
