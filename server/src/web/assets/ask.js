// Owns how the page asks: requests that change something carry a header that no other site's script may send, and faults are told in their words.

/** Asks for JSON. Throws an Error with `status` and the fault's words. */
export async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: "POST",
    headers: { "content-type": "application/json", "x-zeolite": "page" },
    body: JSON.stringify(body),
  };
  const answer = await fetch(path, { cache: "no-store", ...options });
  const text = await answer.text();
  let value = {};
  try {
    value = JSON.parse(text);
  } catch {
    value = { message: text.trim() };
  }
  if (!answer.ok) throw Object.assign(new Error(value.message || `the server answers ${answer.status}`), { status: answer.status });
  return value;
}
