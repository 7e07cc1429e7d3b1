// Reads a stream with npm's eventsource, as it is told by its arguments: the URL, a
// token, and how many custom events it waits for. It prints the text of each as JSON.
import { EventSource } from "eventsource";

const [url, token, want] = process.argv.slice(2);
let left = Number(want);
const source = new EventSource(url, {
  fetch: (input, init) => fetch(input, { ...init, headers: { ...init.headers, Authorization: `Bearer ${token}` } }),
});
source.addEventListener("custom", (e) => {
  console.log(JSON.stringify(JSON.parse(e.data).text));
  if (--left === 0) source.close();
});
source.addEventListener("resync", (e) => {
  console.error(`resync: ${e.data}`);
  process.exit(1);
});
source.onerror = (e) => {
  if (source.readyState !== EventSource.CLOSED || left === 0) return;
  console.error(`it gave up: ${e.code} ${e.message}`);
  process.exit(1);
};
