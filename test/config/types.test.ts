/** Sizes and addresses, there and back: units of 1024 only, and a hint for who writes another. */
import { describe, expect, it } from "vitest";
import { BadValue, bytes, formatAddress, formatBytes, formatDuration } from "../../src/config/types.ts";

const size = bytes({ min: 2 ** 20, max: 2 ** 50 });

describe("sizes", () => {
  it.each([
    ["64MiB", 67_108_864],
    ["1.5 GiB", 1_610_612_736],
    ["100000000", 100_000_000],
    ["100000000B", 100_000_000],
    ["1TiB", 2 ** 40],
  ])("%s", (text, expected) => expect(size.parse(text)).toBe(expected));

  it.each([
    ["64MB", '"64MB" is not a size', "Write 64MiB: units of 1024, so that nothing is ambiguous."],
    ["900000k", '"900000k" is not a size', "Write 900000KiB: units of 1024, so that nothing is ambiguous."],
    ["1KiB", '"1KiB" is out of range', "Choose a value within 1MiB to 1024TiB."],
    ["1048576.5B", '"1048576.5B" is not a whole number of bytes', "Use 1MiB to 1024TiB."],
    ["a lot", '"a lot" is not a size', "Write a size such as 64MiB or 16GiB."],
    ["-1MiB", '"-1MiB" is not a size', "Write a size such as 64MiB or 16GiB."],
  ])("%s is refused", (text, message, hint) => {
    let refused: unknown;
    try {
      size.parse(text);
    } catch (error) {
      refused = error;
    }
    expect(refused).toBeInstanceOf(BadValue);
    expect(refused).toMatchObject({ message, hint });
  });
});

describe("as a person would write it", () => {
  it.each([
    [0, "0"],
    [1, "1ms"],
    [1500, "1500ms"],
    [90_000, "90s"],
    [120_000, "2m"],
    [86_400_000, "1d"],
  ])("%i ms", (ms, text) => expect(formatDuration(ms)).toBe(text));

  it.each([
    [1, "1B"],
    [1536, "1536B"],
    [2 ** 34, "16GiB"],
  ])("%i bytes", (value, text) => expect(formatBytes(value)).toBe(text));

  it.each([
    [{ kind: "off" }, "off"],
    [{ kind: "unix", path: "/s" }, "unix:/s"],
    [{ kind: "tcp", host: "::1", port: 1 }, "[::1]:1"],
    [{ kind: "tcp", host: "db", port: 1 }, "db:1"],
  ] as const)("%j", (address, text) => expect(formatAddress(address)).toBe(text));
});
