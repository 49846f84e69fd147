/**
 * A strict reader of Prometheus' text exposition format (docs: Exposition formats, Text format details): it refuses what
 * a server might forgive, so that what we emit is beyond doubt.
 */
export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface Family {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  readonly samples: Sample[];
}

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/;

/** Throws an Error naming the line that breaks a rule. */
export function parseExposition(text: string): Map<string, Family> {
  if (!text.endsWith("\n")) throw new Error("the last line has no line feed");
  const families = new Map<string, Family>();
  const seen = new Set<string>();
  let help: { readonly name: string; readonly text: string } | undefined;
  let current: Family | undefined;
  for (const line of text.slice(0, -1).split("\n")) {
    const fail = (why: string): never => {
      throw new Error(`${why}: ${line}`);
    };
    if (line === "") continue;
    const comment = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line);
    if (comment !== null) {
      const [, word, name = "", rest = ""] = comment;
      if (!NAME.test(name)) fail("bad metric name");
      if (word === "HELP") {
        if (families.has(name)) fail("the samples of a metric are not in one group");
        help = { name, text: rest };
      } else {
        if (help?.name !== name) fail("TYPE without HELP before it");
        if (!/^(counter|gauge|histogram|summary|untyped)$/.test(rest)) fail("bad type");
        current = { name, type: rest, help: help?.text ?? "", samples: [] };
        families.set(name, current);
      }
      continue;
    }
    if (line.startsWith("#")) fail("a comment that is neither HELP nor TYPE");
    const match = SAMPLE.exec(line);
    const name = match?.[1] ?? fail("not a sample");
    const base = current?.type === "histogram" ? name.replace(/_(bucket|sum|count)$/, "") : name;
    if (current === undefined || current.name !== base) return fail("a sample outside its group");
    const labels = parseLabels(match?.[2] ?? "", fail);
    const id = name + JSON.stringify(Object.entries(labels).sort());
    if (seen.has(id)) fail("the same sample twice");
    seen.add(id);
    current.samples.push({ name, labels, value: parseValue(match?.[3] ?? "", fail) });
  }
  for (const family of families.values()) if (family.type === "histogram") checkHistogram(family);
  return families;
}

function parseLabels(text: string, fail: (why: string) => never): Record<string, string> {
  const labels: Record<string, string> = {};
  let rest = text;
  while (rest !== "") {
    const match = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)/.exec(rest);
    if (match?.[1] === undefined) return fail("bad labels");
    if (match[1] in labels) fail("the same label twice");
    labels[match[1]] = (match[2] ?? "").replaceAll(/\\(.)/g, (_, c: string) => (c === "n" ? "\n" : c));
    rest = rest.slice(match[0].length);
  }
  return labels;
}

function parseValue(text: string, fail: (why: string) => never): number {
  if (text === "+Inf") return Number.POSITIVE_INFINITY;
  if (text === "-Inf") return Number.NEGATIVE_INFINITY;
  if (text === "NaN" || text === "Nan") return Number.NaN;
  if (!/^-?\d+(\.\d+)?(e[+-]?\d+)?$/.test(text)) fail("bad value");
  return Number(text);
}

/** Buckets are cumulative and end with +Inf, which equals the count. */
function checkHistogram(family: Family): void {
  const series = new Map<string, Sample[]>();
  for (const sample of family.samples) {
    const key = JSON.stringify(
      Object.entries(sample.labels)
        .filter(([name]) => name !== "le")
        .sort(),
    );
    series.set(key, [...(series.get(key) ?? []), sample]);
  }
  for (const [key, samples] of series) {
    const buckets = samples.filter(({ name }) => name.endsWith("_bucket"));
    const values = buckets.map(({ value }) => value);
    const bounds = buckets.map(({ labels }) => Number((labels["le"] ?? "").replace("+Inf", "Infinity")));
    const sorted = (list: readonly number[]): boolean => list.every((v, i) => i === 0 || v >= (list[i - 1] ?? v));
    const count = samples.find(({ name }) => name.endsWith("_count"))?.value;
    const hasSum = samples.some(({ name }) => name.endsWith("_sum"));
    if (!sorted(values) || !sorted(bounds) || bounds.at(-1) !== Infinity || values.at(-1) !== count || !hasSum) {
      throw new Error(`histogram ${family.name} ${key} is not one`);
    }
  }
}
