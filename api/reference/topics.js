// What this shows is what /api/asyncapi.json says; text from it is only ever set as
// text.

const source = new URL("/api/asyncapi.json", location.href);

async function load(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url} answered ${answer.status}`);
  return answer.json();
}

function el(tag, content, attributes = {}) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
  e.append(...[content].flat().filter((c) => c !== undefined && c !== null));
  return e;
}

const row = (...cells) => el("tr", cells.map((c) => el("td", c)));
const last = (ref) => ref.split("/").pop().split(".").pop(); // a definition is called <schema>.<definition>

function kept(config) {
  const days = (ms) => {
    const left = Object.entries({ d: 86_400_000, h: 3_600_000, min: 60_000, s: 1000 }).map(([unit, size]) => {
      const n = Math.floor(ms / size);
      ms -= n * size;
      return n ? `${n} ${unit}` : "";
    });
    return left.filter(Boolean).join(" ");
  };
  if (!config["cleanup.policy"].includes("compact")) return days(config["retention.ms"]);
  const lag = config["min.compaction.lag.ms"];
  return lag ? `compacted, all of ${days(lag)}` : "compacted";
}

// typeOf says in a word or two what a schema allows.
function typeOf(schema) {
  if (schema.$ref) return last(schema.$ref);
  if (schema.items) return `list of ${typeOf(schema.items)}`;
  const type = [schema.type ?? "any"].flat().join(" or ");
  return schema.format ? `${type}, ${schema.format}` : type;
}

function members(schema) {
  const rows = Object.entries(schema.properties).map(([name, m]) => {
    const optional = (schema.required ?? []).includes(name) ? "" : "optional";
    const values = m.enum ?? m.items?.enum;
    return row(
      el("code", name), typeOf(m), optional, m["x-pii"] ? el("mark", "x-pii") : "",
      [m.description ?? "", ...(values ? [el("div", values.map((v) => el("code", String(v))), { class: "values" })] : [])],
    );
  });
  return el("table", el("tbody", rows));
}

function examples(message) {
  return message.examples.map((e) => el("details", [el("summary", `Example: ${e.name}`), el("pre", JSON.stringify(e.payload, null, 2))]));
}

function section(name, message, schemas) {
  const inner = Object.entries(schemas).filter(([def, s]) => def.startsWith(name + ".") && s.properties).map(([def, s]) => [def.slice(name.length + 1), s]);
  return el("section", [
    el("h2", [message.title, " ", el("a", name, { href: `/api/schemas/v1/${name}.json` })]),
    el("p", message.summary),
    members(schemas[name]),
    ...inner.flatMap(([def, s]) => [el("h3", def), members(s)]),
    ...examples(message),
  ], { id: `message-${name}`, class: "message" });
}

async function show() {
  const doc = await load(source);
  document.querySelector("#title").textContent = doc.info.title;
  document.querySelector("#about").textContent = doc.info.description;
  for (const [name, channel] of Object.entries(doc.channels)) {
    const { topicConfiguration, partitions } = channel.bindings.kafka;
    const [message] = Object.keys(channel.messages);
    document.querySelector("#channels").append(row(
      el("code", name), el("a", message, { href: `#message-${message}` }), doc.components.messages[message].bindings.kafka.key.description,
      String(partitions), kept(topicConfiguration), doc.operations[`write.${name}`].summary, channel.summary.replace("Read by: ", ""),
    ));
  }
  const { headers } = Object.values(doc.components.messages)[0];
  for (const [name, h] of Object.entries(headers.properties)) document.querySelector("#headers").append(row(el("code", name), h.description));
  const sections = Object.entries(doc.components.messages).map(([name, m]) => section(name, m, doc.components.schemas));
  document.querySelector("#messages").append(...sections);
}

const main = document.querySelector("main");
try {
  await show();
  main.dataset.state = "shown";
} catch (err) {
  const error = document.querySelector("#error");
  error.textContent = `The document cannot be shown: ${err.message}`;
  error.hidden = false;
  main.dataset.state = "failed";
}
