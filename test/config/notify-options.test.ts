/** The notifications' options: what they take, what they refuse, and that a refusal repeats no secret. */
import { describe, expect, test } from "vitest";
import { NOTIFY_OPTIONS } from "../../src/config/notify-options.ts";
import { NOTICE_EVENT_NAMES } from "../../src/config/notify-events.ts";
import { OPTIONS } from "../../src/config/options.ts";
import { load, refusal } from "./given.ts";

const STORE = { store: "file:///archive" };

describe("are taken", () => {
  test.each([
    ["notify-url", "https://hooks.example.com/services/T0/B0/x", "https://hooks.example.com/services/T0/B0/x"],
    ["notify-url", "http://127.0.0.1:8080/", "http://127.0.0.1:8080/"],
    ["notify-command", "/usr/local/bin/on seawall", "/usr/local/bin/on seawall"],
    ["notify-events", "all", "all"],
    ["notify-events", "gap-recorded, job-failed", "gap-recorded,job-failed"],
    ["notify-events", "-drill-passed,-job-recovered", "-drill-passed,-job-recovered"],
    ["notify-after", "90s", 90_000],
  ])("%s: %s", async (name, text, expected) => {
    const { settings } = await load({ flags: { ...STORE, [name]: text } });
    const key = Object.entries(OPTIONS).find(([, spec]) => spec.name === name)?.[0];
    expect(settings[key as keyof typeof NOTIFY_OPTIONS]).toBe(expected);
  });

  test.each([
    ["Authorization: Bearer abc", "Authorization: Bearer abc"],
    ["X-Token:abc", "X-Token: abc"],
    ["X-Token:  a b=c:d ", "X-Token: a b=c:d"],
  ])("a header: %s", (text, expected) => {
    expect(NOTIFY_OPTIONS.notifyHeader.parse(text)).toBe(expected);
  });
});

describe("are refused", () => {
  test.each([
    ["notify-url", "hunter22", /--notify-url: the value is not an http or https URL/],
    ["notify-url", "ftp://user:hunter22@host/", /is not an http or https URL/],
    ["notify-url", "file:///etc/hunter22", /is not an http or https URL/],
    ["notify-header", "hunter22", /--notify-header: the value is not a header/],
    ["notify-header", "X-Token: hunter22\r\nHost: evil", /is not a header/],
    ["notify-header", "X-Token: hünter22", /is not a header/],
    ["notify-header", "X Token: hunter22", /is not a header/],
    ["notify-header", "X-Token: ", /is not a header/],
    ["notify-header", "Content-Length: 5", /Content-Length cannot be set/],
    ["notify-header", "host: hunter22", /host cannot be set/],
    ["notify-command", "on-seawall", /"on-seawall" is not an absolute path/],
    ["notify-events", "everything", /"everything" is no event/],
    ["notify-events", "", /"" is no event/],
    ["notify-events", "gap-recorded,-job-failed", /some names have a minus/],
    ["notify-after", "0", /is out of range/],
  ])("%s: %s", async (name, text, says) => {
    const error = await refusal({ flags: { ...STORE, [name]: text } });
    expect(error).toMatchObject({ code: "usage" });
    expect(error.message).toMatch(says);
    expect(`${error.message} ${error.hint}`).not.toContain("hunter22");
  });

  test("a header without a webhook", async () => {
    const error = await refusal({ flags: STORE, env: { SEAWALL_NOTIFY_HEADER: "X-Token: hunter22" } });
    expect(error.message).toBe("SEAWALL_NOTIFY_HEADER: there is no webhook to send the header to");
  });

  test("an expiry without rules, wherever the rules could stand", async () => {
    const flags = { ...STORE, "expire-schedule": "0 3 * * *" };
    expect((await refusal({ flags })).message).toBe("--expire-schedule: there is no retention rule to expire by");
    const file = 'store: "file:///archive"\nexpire-schedule: 0 3 * * *\n';
    expect((await refusal({ file })).message).toMatch(/^seawall\.yaml:2:18: there is no retention rule/);
    await load({ flags, env: { SEAWALL_KEEP_FULL: "2" } });
    await load({ file: `${file}keep-daily: 7\n` });
    // Other commands read the same file.
    await load({ command: "list", file });
  });
});

test("every event can be named", () => {
  for (const name of NOTICE_EVENT_NAMES) expect(NOTIFY_OPTIONS.notifyEvents.parse(name)).toBe(name);
});
