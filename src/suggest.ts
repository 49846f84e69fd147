/** "Did you mean …?": finds the nearest known word. Pure; options, commands and connection keywords are looked up here. */

/** The nearest of `known` when it is near enough to be a slip of the finger; undefined otherwise. */
export function nearest(word: string, known: Iterable<string>): string | undefined {
  const wanted = normal(word);
  const limit = Math.max(1, Math.min(3, Math.floor(wanted.length / 3)));
  let best: { readonly name: string; readonly distance: number } | undefined;
  for (const name of known) {
    const distance = editDistance(wanted, normal(name));
    if (distance <= limit && (best === undefined || distance < best.distance)) best = { name, distance };
  }
  return best?.name;
}

/** `ship_interval`, `shipInterval` and `SHIP-INTERVAL` are the same slip. */
function normal(word: string): string {
  return word.replaceAll(/[-_.\s]/g, "").toLowerCase();
}

/** Edits, and swaps of neighbours, that make `a` into `b` (optimal string alignment). */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1;
      let value = Math.min(at(last, j) + 1, at(row, j - 1) + 1, at(last, j - 1) + cost);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        value = Math.min(value, at(beforeLast, j - 2) + 1);
      }
      row.push(value);
    }
    beforeLast = last;
    last = row;
  }
  return at(last, b.length);
}

function at(row: readonly number[], index: number): number {
  return row[index] ?? Number.POSITIVE_INFINITY;
}
