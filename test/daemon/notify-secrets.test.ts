/** A hook that repeats what it was sent: no part of its address or header that lets in reaches the log or the status. */
import { expect, test } from "vitest";
import { secretsScrubber } from "../../src/daemon/notify/notify.ts";
import { shownAnswer } from "../../src/daemon/notify/attempt.ts";
import { load } from "../config/given.ts";

const TOKEN = "XyZ0123456789abcdef";

const echoes: readonly { title: string; url: string; header?: string; said: string }[] = [
  {
    title: "the token of its path",
    url: `https://hooks.example/services/T00/B00/${TOKEN}`,
    said: `no such hook: ${TOKEN}`,
  },
  { title: "a parameter", url: `https://hooks.example/in?key=${TOKEN}&x=1`, said: `${TOKEN} has expired` },
  {
    title: "a part of its path, decoded",
    url: `https://hooks.example/in/a%20b%2F${TOKEN}`,
    said: `a b/${TOKEN} unknown`,
  },
  {
    title: "the word of a header",
    url: "https://hooks.example/in",
    header: `Authorization: Bearer ${TOKEN}`,
    said: `bad ${TOKEN}`,
  },
  {
    title: "a token where the answer is cut",
    url: `https://hooks.example/${TOKEN}/in`,
    said: `${"x".repeat(230)} ${TOKEN}`,
  },
];

test.each(echoes)("$title is not repeated", async ({ url, header, said }) => {
  const flags = {
    store: "file:///archive",
    "notify-url": url,
    ...(header === undefined ? {} : { "notify-header": header }),
  };
  const { settings } = await load({ flags });
  const shown = shownAnswer(`HTTP status 404: ${said}`, secretsScrubber({ settings, env: {} }));
  expect(shown).toContain("HTTP status 404");
  for (let length = 6; length <= TOKEN.length; length++) expect(shown).not.toContain(TOKEN.slice(0, length));
});
