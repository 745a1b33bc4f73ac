"use strict";

// The page asks swagger.json what there is, makes forms of it, and sends them as any
// other client would. Texts from elsewhere are only ever set as text.

const longText = 2_000_000; // characters of JSON that are still shown
const longHint = 200; // characters of a default that are shown below its field
const pollTime = 2000; // milliseconds between two looks at trainings that run

// node makes an element of properties and children.
function node(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

async function readJSON(url, options) {
  const answer = await fetch(url, options);
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${answer.status} ${problem(text)}`);
  return JSON.parse(text);
}

// problem is what an answer says is wrong.
function problem(text) {
  try {
    const body = JSON.parse(text);
    if (typeof body.error === "string") return body.error;
    return Object.entries(body).map(([name, texts]) => `${name}: ${[].concat(texts).join(" ")}`).join("; ");
  } catch {
    return text.slice(0, 500);
  }
}

// One model at a time is shown; leaving it ends what goes on for it.
const page = { models: [], leave: new AbortController() };

async function load() {
  const [swagger, list] = await Promise.all([readJSON("swagger.json"), readJSON("v2/models/")]);
  page.models = [];
  for (const path of Object.keys(swagger.paths)) {
    const found = path.match(/^(.*\/v2\/models\/([^/]+)\/)$/);
    if (!found) continue;
    const route = found[1];
    page.models.push({
      name: decodeURIComponent(found[2]),
      route,
      at: `v2/models/${found[2]}/`, // from this page, whatever a gateway calls its place
      metadata: {},
      predict: swagger.paths[route + "predict/"]?.post,
      train: swagger.paths[route + "train/"],
    });
  }
  // A module may give itself another name than its route has; its place is the same.
  const named = new Map();
  list.models.forEach((m) => {
    const self = Array.isArray(m.links) ? m.links.find((l) => l?.rel === "self") : null;
    named.set(typeof self?.href === "string" ? self.href.replace(/\/?$/, "/") : m.id, m);
  });
  page.models.forEach((m) => { m.metadata = named.get(m.route) ?? named.get(m.name) ?? {}; });
  page.models.sort((a, b) => a.name.localeCompare(b.name));
}

function chosen() {
  let name = location.hash.slice(1);
  try {
    name = decodeURIComponent(name);
  } catch {
    // It was not this page that wrote it: the first model is shown.
  }
  return page.models.find((m) => m.name === name) ?? page.models[0];
}

function show() {
  page.leave.abort();
  page.leave = new AbortController();
  const model = chosen();
  const main = document.getElementById("main");
  document.getElementById("models").replaceChildren(...page.models.map((m) => node("li", {},
    node("a", { href: "#" + encodeURIComponent(m.name), "aria-current": m === model ? "page" : null }, m.name))));
  if (!model) {
    main.replaceChildren(node("p", {}, "This server has no models."));
    return;
  }
  document.title = `${model.name} – deepfn`;
  const parts = [node("h2", {}, model.name), about(model.metadata)];
  if (model.predict) parts.push(node("h3", {}, "Predict"), predictForm(model));
  else parts.push(node("p", {}, "This model does not predict here."));
  if (model.train?.post) parts.push(node("h3", {}, "Train"), trainPart(model));
  main.replaceChildren(...parts);
}

function about(metadata) {
  const text = (value) => (Array.isArray(value) ? value.join(" ") : typeof value === "string" ? value : "");
  const facts = ["title", "version", "author", "license"]
    .filter((key) => text(metadata[key])).map((key) => `${key}: ${text(metadata[key])}`).join(" · ");
  return node("div", {}, node("p", {}, text(metadata.description) || text(metadata.summary)), node("p", { className: "meta" }, facts));
}

// A field is the input of one parameter: its element, and how it goes into a request.
let ids = 0;
function field(parameter, changed) {
  const id = `f${++ids}`;
  const { input, values } = inputOf(parameter, id);
  const hint = [parameter.description, hintOf(parameter)].filter(Boolean).join(" · ");
  const preview = node("div", { className: "preview" });
  if (parameter.type === "file") input.addEventListener("change", () => preview.replaceChildren(...[...input.files].map(previewOf)));
  input.addEventListener("input", changed);
  if (hint) input.setAttribute("aria-describedby", id + "h");
  const element = node("div", { className: "field" },
    node("label", { htmlFor: id }, parameter.name + (parameter.required ? " *" : "")), input,
    hint ? node("p", { className: "hint", id: id + "h" }, hint) : null, preview);
  return { parameter, element, values };
}

function hintOf(p) {
  const words = rangeOf(p);
  const size = p.type === "array" ? ["minItems", "maxItems", "values"] : ["minLength", "maxLength", "characters"];
  const [least, most] = [p[size[0]], p[size[1]]];
  if (least !== undefined || most !== undefined) words.push(`${least === undefined ? "at most" : most === undefined ? "at least" : `${least} to`} ${most ?? least} ${size[2]}`);
  if (p.pattern ?? p["x-pattern"]) words.push(`matches ${p.pattern ?? p["x-pattern"]}`);
  if (p.format && p.format !== "password") words.push(p.format);
  if (p.type === "array") words.push("one value a line", ...rangeOf(p.items ?? {}).map((text) => `each ${text}`));
  if (p.items?.enum) words.push(`each one of ${p.items.enum.map(shown).join(", ")}`);
  if (p["x-json"]) words.push("JSON");
  if (defaultOf(p) !== undefined) words.push(`default ${shown(defaultOf(p)).slice(0, longHint)}`);
  return words.join(", ");
}

function rangeOf(p) {
  const words = [];
  if (p.minimum !== undefined) words.push(`${p.exclusiveMinimum ? "over" : "from"} ${p.minimum}`);
  if (p.maximum !== undefined) words.push(`${p.exclusiveMaximum ? "under" : "to"} ${p.maximum}`);
  return words.length === 0 ? [] : [words.join(" ")];
}

function inputOf(p, id) {
  const common = { id, name: p.name, required: p.required };
  if (p.type === "file") {
    const input = node("input", { ...common, type: "file", multiple: !!p["x-multiple"], accept: (p["x-content-types"] ?? []).join(",") });
    return { input, values: () => [...input.files] };
  }
  const choices = p.enum ?? (p.type === "boolean" ? [true, false] : null);
  if (choices) {
    const input = node("select", common, ...(p.required && defaultOf(p) === undefined ? [] : [node("option", { value: "" }, defaultText(p))]),
      ...choices.map((c) => node("option", { value: String(c) }, String(c))));
    return { input, values: () => (input.value === "" ? [] : [input.value]) };
  }
  if (p.type === "array" || p["x-json"]) {
    const input = node("textarea", { ...common, rows: 3, placeholder: linesOf(p) });
    const lines = () => (p.type === "array" ? input.value.split("\n") : [input.value]);
    return { input, values: () => lines().filter((line) => line.trim() !== "") };
  }
  const number = p.type === "integer" || p.type === "number";
  const input = node("input", {
    ...common, type: p.format === "password" ? "password" : number ? "number" : "text", placeholder: shown(defaultOf(p)),
    step: number ? (p.type === "integer" ? "1" : "any") : null, autocomplete: "off",
    min: number ? p.minimum : null, max: number ? p.maximum : null,
  });
  return { input, values: () => (input.value === "" ? [] : [input.value]) };
}

const shown = (value) => (value === undefined ? "" : typeof value === "string" ? value : JSON.stringify(value));
const defaultOf = (p) => (p.format === "password" ? undefined : p.default ?? p["x-default"]);
const defaultText = (p) => (defaultOf(p) === undefined ? "(none)" : `(default: ${shown(defaultOf(p))})`);
const linesOf = (p) => (Array.isArray(defaultOf(p)) && p.type === "array" ? defaultOf(p).map(shown).join("\n") : shown(defaultOf(p)));

// previewOf shows a chosen file. Its URL is given back when the model is left.
function previewOf(file) {
  return media(file, file.type, "") ?? node("p", { className: "hint" }, `${file.name}, ${file.size} bytes`);
}

function media(blob, type, className) {
  const kind = type.split("/")[0];
  const name = { image: "img", audio: "audio", video: "video" }[kind] ?? (type.startsWith("application/pdf") && className ? "iframe" : "");
  if (!name) return null;
  const element = node(name, { src: keptURL(blob), className });
  if (name === "img") element.alt = "";
  else if (name === "iframe") element.title = "answer";
  else element.controls = true;
  return element;
}

function keptURL(blob) {
  const url = URL.createObjectURL(blob);
  page.leave.signal.addEventListener("abort", () => URL.revokeObjectURL(url));
  return url;
}

// fieldsOf makes the inputs of an operation, and the request that they say. It answers
// what the model makes, whose media type can be chosen, or not.
function fieldsOf(path, operation, answers, changed) {
  const parameters = (operation.parameters ?? []).filter((p) => p.name !== "Cookie" || p.in !== "header");
  const list = parameters.filter((p) => p.in !== "body").map((p) => field(p, changed));
  let body = null;
  if (parameters.some((p) => p.in === "body") || operation.description) {
    body = field({ name: "JSON", "x-json": true, description: operation.description ?? "the other arguments, one JSON object" }, changed);
    list.push(body);
  }
  const accept = !answers || list.some((f) => f.parameter.name.toLowerCase() === "accept") ? null :
    field({ name: "Accept", description: "media type of the answer; empty is the model's own choice" }, changed);
  const request = () => {
    const query = new URLSearchParams();
    const form = new FormData();
    const headers = {};
    let json;
    for (const f of accept ? [...list, accept] : list) {
      for (const value of f.values()) {
        if (f === body) json = value;
        else if (f === accept || f.parameter.in === "header") headers[f.parameter.name] = value;
        else if (body || f.parameter["x-only"]) query.append(f.parameter.name, value);
        else form.append(f.parameter.name, value); // a URL is short, and is written down
      }
    }
    if (json !== undefined) headers["Content-Type"] = "application/json";
    const url = new URL(path, location.href);
    url.search = query;
    return { url, headers, form, body: json ?? (form.keys().next().done ? undefined : form) };
  };
  return { elements: [...list, ...(accept ? [accept] : [])].map((f) => f.element), request };
}

// curl is the same request for a shell. Neither a body nor the name of a file means more
// to curl than it says.
function curl({ url, headers, form, body }) {
  const named = (file) => `@"${file.name.replace(/["\\]/g, "\\$&")}"`;
  const quote = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
  const words = ["curl", "-X", "POST"];
  for (const [name, value] of Object.entries(headers)) words.push("-H", quote(`${name}: ${value}`));
  if (typeof body === "string") words.push("--data-raw", quote(body));
  else for (const [name, value] of form) words.push(value instanceof File ? "-F" : "--form-string", quote(value instanceof File ? `${name}=${named(value)}` : `${name}=${value}`));
  return [...words, quote(url.href)].join(" ");
}

// operationForm is a form that sends one operation; done gets the answer.
function operationForm(path, operation, label, done) {
  const line = node("code", {});
  const fields = fieldsOf(path, operation, path.endsWith("predict/"), () => { line.textContent = curl(fields.request()); });
  const send = node("button", { className: "first", type: "submit" }, label);
  const stop = node("button", { type: "button", disabled: true }, "Cancel");
  const copy = node("button", { type: "button" }, "Copy as curl");
  const status = node("span", { role: "status" });
  const form = node("form", {}, ...fields.elements, node("div", { className: "buttons" }, send, stop, copy, status), node("pre", {}, line));
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(line.textContent);
      status.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(line); // without a clipboard, as on plain HTTP
      status.textContent = "selected";
    }
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const call = new AbortController();
    const ends = AbortSignal.any([call.signal, page.leave.signal]);
    stop.onclick = () => call.abort();
    [send.disabled, stop.disabled, status.className, status.textContent] = [true, false, "", "sent …"];
    const begun = performance.now();
    try {
      const { url, headers, body } = fields.request();
      const answer = await fetch(url, { method: "POST", headers, body, signal: ends });
      const blob = await answer.blob();
      const seconds = ((performance.now() - begun) / 1000).toFixed(3);
      status.textContent = `${answer.status} ${answer.statusText} in ${seconds} s, ${blob.size} bytes`;
      status.className = answer.ok ? "good" : "bad";
      await done(answer, blob);
    } catch (error) {
      status.textContent = call.signal.aborted ? "cancelled" : String(error.message ?? error);
      status.className = "bad";
    } finally {
      [send.disabled, stop.disabled] = [false, true];
    }
  });
  line.textContent = curl(fields.request());
  return form;
}

function predictForm(model) {
  const result = node("div", { "aria-live": "polite" });
  const form = operationForm(model.at + "predict/", model.predict, "Run", async (answer, blob) => {
    result.replaceChildren(...await answerOf(answer, blob));
    if (answer.ok && model.predict.description) { // it is loaded now, and its arguments are known
      await load();
      const now = page.models.find((m) => m.name === model.name);
      if (now?.predict && !now.predict.description) form.replaceWith(predictForm(now), result);
    }
  });
  return node("div", {}, form, result);
}

// answerOf shows an answer by its media type, with a link to keep it.
async function answerOf(answer, blob) {
  const type = answer.headers.get("Content-Type") ?? "";
  const parts = [];
  if (type.includes("json") || type.startsWith("text/plain")) {
    const text = blob.size < longText ? await blob.text() : `${blob.size} bytes, too long to show`;
    parts.push(node("pre", { tabIndex: 0 }, type.includes("json") ? pretty(text) : text));
  } else {
    parts.push(media(blob, type, "shown"));
  }
  const disposition = answer.headers.get("Content-Disposition") ?? "";
  const name = disposition.match(/filename="?([^";]+)/)?.[1] ?? "answer";
  const download = node("a", { href: keptURL(blob), download: name }, `Save ${type || "the answer"}`);
  return [...parts.filter(Boolean), node("p", {}, download)];
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

// trainPart is the form that starts a training, and the table of all.
function trainPart(model) {
  const rows = node("tbody");
  const logs = node("div", { "aria-live": "polite" });
  const notice = node("p", { role: "status" });
  const leave = page.leave.signal;
  let next = 0;
  const refresh = async () => {
    clearTimeout(next);
    try {
      const jobs = await readJSON(model.at + "train/", { signal: leave });
      rows.replaceChildren(...jobs.toReversed().map((job) => row(model, job, refresh, logs)));
      notice.textContent = jobs.length ? "" : "There are no trainings.";
      if (jobs.some((job) => job.status === "running")) next = setTimeout(refresh, pollTime);
    } catch (error) {
      if (!leave.aborted) notice.textContent = String(error.message ?? error);
    }
  };
  leave.addEventListener("abort", () => clearTimeout(next));
  const form = operationForm(model.at + "train/", model.train.post, "Start", async (answer, blob) => {
    logs.replaceChildren(...(answer.ok ? [] : await answerOf(answer, blob)));
    await refresh();
  });
  refresh();
  const head = node("thead", {}, node("tr", {}, ...["Started", "Status", "Result", "Actions"].map((text) => node("th", { scope: "col" }, text))));
  return node("div", {}, form, notice, node("div", { className: "wide" }, node("table", {}, head, rows)), logs);
}

function row(model, job, refresh, logs) {
  const at = `${model.at}train/${encodeURIComponent(job.uuid)}`;
  const running = job.status === "running";
  const state = node("td", {}, job.queued ? "waiting" : job.status);
  if (running && job.progress) {
    state.append(" ", node("progress", { max: 1, value: job.progress.fraction, "aria-label": "progress" }),
      ` ${Math.round(job.progress.fraction * 100)} % ${job.progress.text}`);
  }
  const cancel = node("button", { type: "button" }, running ? "Cancel" : "Remove");
  cancel.addEventListener("click", async () => {
    if (!confirm(`${running ? "Cancel" : "Remove"} the training of ${String(job.date).slice(0, 19)}? Its result and its logs are removed.`)) return;
    cancel.disabled = true;
    await fetch(at, { method: "DELETE" });
    await refresh();
  });
  const read = node("button", { type: "button" }, "Logs");
  read.addEventListener("click", async () => {
    const answer = await fetch(at + "/logs");
    logs.replaceChildren(node("h4", {}, `Logs of ${job.uuid}`), node("pre", { tabIndex: 0 }, await answer.text()));
  });
  const result = job.message ?? (job.result ? `${JSON.stringify(job.result.output)} in ${job.result.duration}` : JSON.stringify(job.args));
  return node("tr", {}, node("td", {}, String(job.date).slice(0, 19)), state, node("td", { className: "result" }, result), node("td", {}, read, " ", cancel));
}

addEventListener("hashchange", show);
load().then(show, (error) => { document.getElementById("notice").textContent = String(error.message ?? error); });
