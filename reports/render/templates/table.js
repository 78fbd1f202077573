/* The tables of a report. DataTables draws and pages; this finds, picks and sorts in the packed columns. */
(function ($) {
  "use strict";

  async function unpack(element) {
    const packed = Uint8Array.from(atob(element.textContent.trim()), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const table = JSON.parse(await new Response(stream).text());
    for (const column of table.columns) {
      if (column.codes) {
        column.codes = Int32Array.from(column.codes);
      }
    }
    return table;
  }

  const escapes = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
  const escaped = (text) => String(text).replace(/[&<>"']/g, (c) => escapes[c]);
  const value = (column, row) => (column.codes ? column.values[column.codes[row]] : column.values[row]);

  function shown(column, row) {
    const cell = value(column, row);
    if (cell === null || cell === "" || (column.number && cell < 0)) {
      return '<span class="quiet">\u2013</span>';
    }
    if (column.number) {
      return cell.toLocaleString("en-US");
    }
    if (column.pick) {
      return escaped(cell.replace(/_/g, " ").replace(/;/g, ", "));
    }
    return "<bdi>" + escaped(cell).replaceAll("/", "/<wbr>") + "</bdi>"; // an OU's path breaks between its parts
  }

  /* Give a function that tells of a row whether the column's value passes the test; each value is tested once. */
  function passing(column, test) {
    const passes = Uint8Array.from(column.values, (each) => (test(each) ? 1 : 0));
    return column.codes ? (row) => passes[column.codes[row]] : (row) => passes[row];
  }

  function wordTest(table, word) {
    const tests = table.columns
      .filter((column) => !column.number)
      .map((column) => passing(column, (text) => text.toLowerCase().includes(word)));
    return (row) => tests.some((test) => test(row));
  }

  function pickTest(column, picked) {
    return passing(column, (text) => (column.pick === "part" ? text.split(";").includes(picked) : text === picked));
  }

  /* Numbers that sort like the column's values do. */
  function ranks(column) {
    if (column.codes) {
      return column.codes;
    }
    if (!column.ranks) {
      const order = Array.from(column.values.keys());
      const cells = column.values;
      order.sort((a, b) => (cells[a] < cells[b] ? -1 : cells[a] > cells[b] ? 1 : 0));
      column.ranks = new Int32Array(order.length);
      order.forEach((row, rank) => {
        column.ranks[row] = rank;
      });
    }
    return column.ranks;
  }

  function found(table, search, picks) {
    const words = search.toLowerCase().split(/\s+/).filter(Boolean);
    const tests = words.map((word) => wordTest(table, word));
    for (const [index, picked] of picks) {
      tests.push(pickTest(table.columns[index], picked));
    }
    const rows = [];
    for (let row = 0; row < table.rows; row += 1) {
      if (tests.every((test) => test(row))) {
        rows.push(row);
      }
    }
    return rows;
  }

  function sort(table, rows, order) {
    const keys = order.map((item) => [ranks(table.columns[item.column]), item.dir === "desc" ? -1 : 1]);
    rows.sort((a, b) => {
      for (const [rank, sign] of keys) {
        if (rank[a] !== rank[b]) {
          return sign * (rank[a] - rank[b]);
        }
      }
      return a - b;
    });
  }

  function pickers(table, host, changed) {
    const picks = new Map();
    table.columns.forEach((column, index) => {
      if (!column.pick) {
        return;
      }
      const parts = column.pick === "part" ? column.values.flatMap((text) => text.split(";")) : column.values;
      const label = document.createElement("label");
      const select = document.createElement("select");
      select.dataset.column = column.name;
      select.append(new Option("all", ""));
      for (const part of [...new Set(parts)].filter(Boolean).sort()) {
        select.append(new Option(part.replace(/_/g, " "), part));
      }
      select.addEventListener("change", () => {
        if (select.value) {
          picks.set(index, select.value);
        } else {
          picks.delete(index);
        }
        changed();
      });
      label.append(column.title + " ", select);
      host.append(label);
    });
    return picks;
  }

  async function start(element) {
    const table = await unpack(document.getElementById(element.id + "-data"));
    const host = document.getElementById(element.id + "-picks");
    const picks = pickers(table, host, () => view.draw());
    const view = $(element).DataTable({
      serverSide: true, // the "server" is the function below: one page of rows in the document, however many there are
      ajax: (request, answer) => {
        const rows = found(table, request.search.value, picks);
        sort(table, rows, request.order);
        const page = rows.slice(request.start, request.start + request.length);
        answer({
          draw: request.draw,
          recordsTotal: table.rows,
          recordsFiltered: rows.length,
          data: page.map((row) => table.columns.map((column) => shown(column, row))),
        });
      },
      columns: table.columns.map((column) => ({
        title: column.title,
        className: "c-" + column.name + (column.number ? " number" : ""),
      })),
      order: [],
      pageLength: 25,
      searchDelay: 150,
      autoWidth: false,
      layout: { topStart: "info", topEnd: "search", bottomStart: "pageLength", bottomEnd: "paging" },
      language: {
        search: "Search",
        lengthMenu: "_MENU_ rows a page",
        info: "_START_ to _END_ of _TOTAL_",
        infoFiltered: "(of _MAX_)",
        infoEmpty: "nothing found",
        zeroRecords: "Nothing matches.",
        emptyTable: "Nothing to show.",
      },
    });
    element.closest("section").classList.add("ready");
  }

  for (const element of document.querySelectorAll("table[data-packed]")) {
    start(element).catch((error) => {
      element.closest("section").querySelector(".fallback").textContent =
        "This browser can't unpack the table (" + error.message + "). The CSV beside this page has every row.";
    });
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-pick]");
    const select = link && document.querySelector('#functions-table-picks select[data-column="' + link.dataset.pick + '"]');
    if (select) {
      select.value = link.dataset.value;
      select.dispatchEvent(new Event("change"));
    }
  });
})(REPORT_JQUERY);
