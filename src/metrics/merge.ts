/**
 * Merges several expositions in Prometheus' text format: each metric once, with its HELP and TYPE, and all its samples.
 * Pure.
 *
 * Source: Prometheus docs, exposition formats: all lines of a metric are one group, and no metric has two TYPE lines.
 */

interface Family {
  readonly head: string[];
  readonly samples: string[];
}

export function mergeExpositions(texts: readonly string[]): string {
  const families = new Map<string, Family>();
  for (const text of texts) {
    let family: Family | undefined;
    let isNew = false;
    for (const line of text.split("\n")) {
      if (line === "") continue;
      const comment = /^# (HELP|TYPE) (\S+)/.exec(line);
      if (comment === null) {
        family?.samples.push(line);
        continue;
      }
      const [, word, name = ""] = comment;
      // HELP opens a metric.
      if (word === "HELP") {
        isNew = !families.has(name);
        family = families.get(name) ?? { head: [], samples: [] };
        families.set(name, family);
      }
      if (isNew) family?.head.push(line);
    }
  }
  const groups = [...families.values()].map(({ head, samples }) => [...head, ...samples].join("\n"));
  return `${groups.join("\n\n")}\n`;
}
