/**
 * `seawall.yaml`: one flat mapping of option names to plain values, read with the place of every key and value so that
 * errors can name line and column. The YAML library is loaded only when there is a file.
 */
import { SeawallError } from "../errors.ts";

/** One line of the file. `value` is YAML's own type; `source` the characters as written. */
export interface FileEntry {
  readonly key: string;
  readonly value: unknown;
  readonly source: string;
  /** `seawall.yaml:3:1`. */
  readonly keyPlace: string;
  readonly valuePlace: string;
}

/** A configuration file is small; anything larger is not one. */
const FILE_CHARS_MAX = 1 << 20;

/** Throws `usage` naming file, line and column when this is not a flat YAML mapping. */
export async function readConfigFile(path: string, content: string): Promise<FileEntry[]> {
  if (content.length > FILE_CHARS_MAX) {
    throw new SeawallError("usage", `${path}: too large for a configuration file`, { hint: "Check --config." });
  }
  const { isAlias, isMap, isScalar, LineCounter, parseAllDocuments } = await import("yaml");
  const lines = new LineCounter();
  const at = (offset: number | undefined): string => {
    const { line, col } = lines.linePos(offset ?? 0);
    return `${path}:${line}:${col}`;
  };
  const documents = parseAllDocuments(content, { lineCounter: lines, prettyErrors: false, uniqueKeys: true });
  if (!Array.isArray(documents)) return [];
  const [document, second] = documents;
  if (document === undefined) return [];
  const problem = document.errors[0] ?? document.warnings[0];
  if (problem !== undefined) {
    throw new SeawallError("usage", `${at(problem.pos[0])}: malformed YAML: ${problem.message}`, {
      hint: 'The file is a flat list of lines like "ship-interval: 1s".',
    });
  }
  if (second !== undefined) {
    throw new SeawallError("usage", `${at(second.range[0])}: a second YAML document`, {
      hint: "Keep one document in the file.",
    });
  }
  const root: unknown = document.contents;
  if (root === null || (isScalar(root) && root.value === null)) return [];
  if (!isMap(root)) {
    throw new SeawallError("usage", `${at(document.range[0])}: expected a mapping of options`, {
      hint: 'Write lines like "ship-interval: 1s".',
    });
  }
  return root.items.map((pair): FileEntry => {
    const key = pair.key;
    if (!isScalar(key)) {
      throw new SeawallError("usage", `${at(root.range?.[0])}: a key must be plain text`, {
        hint: "See docs/configuration.md.",
      });
    }
    const keyPlace = at(key.range?.[0]);
    const node = isAlias(pair.value) ? pair.value.resolve(document) : pair.value;
    if (isScalar(node)) {
      return {
        key: String(key.value),
        value: node.value,
        source: node.source ?? String(node.value),
        keyPlace,
        valuePlace: at(node.range?.[0]),
      };
    }
    // `key` alone gives no value node; a list or mapping is passed on as is and refused with the option's own words.
    return {
      key: String(key.value),
      value: node === undefined ? null : node,
      source: "",
      keyPlace,
      valuePlace: keyPlace,
    };
  });
}
