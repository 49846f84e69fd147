/**
 * `seawall.yaml`: a mapping of option names to plain values, and under `clusters:` one such mapping for each cluster. Read
 * with the place of every key and value so that errors can name line and column. The YAML library is loaded only when there
 * is a file.
 */
import type * as Yaml from "yaml";
import { SeawallError } from "../errors.ts";

/** One line of the file. `value` is YAML's own type, of a list its plain values; `source` the characters as written. */
export interface FileEntry {
  readonly key: string;
  readonly value: unknown;
  readonly source: string;
  /** `seawall.yaml:3:1`. */
  readonly keyPlace: string;
  readonly valuePlace: string;
}

/** The options of one cluster, under its name in `clusters:`. */
export interface FileCluster {
  readonly name: string;
  readonly place: string;
  readonly entries: readonly FileEntry[];
}

export interface ConfigFile {
  readonly entries: readonly FileEntry[];
  /** Undefined without `clusters:`. */
  readonly clusters: readonly FileCluster[] | undefined;
}

/** A configuration file is small; anything larger is not one. */
const FILE_CHARS_MAX = 1 << 20;
export const CLUSTERS_KEY = "clusters";
const NOTHING: ConfigFile = { entries: [], clusters: undefined };

/** Throws `usage` naming file, line and column when this is not a YAML mapping of options. */
export async function readConfigFile(path: string, content: string): Promise<ConfigFile> {
  if (content.length > FILE_CHARS_MAX) {
    throw new SeawallError("usage", `${path}: too large for a configuration file`, { hint: "Check --config." });
  }
  const { isAlias, isMap, isScalar, isSeq, LineCounter, parseAllDocuments } = await import("yaml");
  const lines = new LineCounter();
  const at = (offset: number | undefined): string => {
    const { line, col } = lines.linePos(offset ?? 0);
    return `${path}:${line}:${col}`;
  };
  const documents = parseAllDocuments(content, { lineCounter: lines, prettyErrors: false, uniqueKeys: false });
  if (!Array.isArray(documents)) return NOTHING;
  const [document, second] = documents;
  if (document === undefined) return NOTHING;
  const problem = document.errors[0] ?? document.warnings[0];
  if (problem !== undefined) {
    throw new SeawallError("usage", `${at(problem.pos[0])}: malformed YAML: ${problem.message}`, {
      hint: 'The file is a list of lines like "ship-interval: 1s"; only what stands under clusters: is indented.',
    });
  }
  if (second !== undefined) {
    throw new SeawallError("usage", `${at(second.range[0])}: a second YAML document`, {
      hint: "Keep one document in the file.",
    });
  }
  const root: unknown = document.contents;
  if (root === null || (isScalar(root) && root.value === null)) return NOTHING;
  if (!isMap(root)) {
    throw new SeawallError("usage", `${at(document.range[0])}: expected a mapping of options`, {
      hint: 'Write lines like "ship-interval: 1s".',
    });
  }
  return readMapping({ document, at, isAlias, isMap, isScalar, isSeq }, root);
}

/** The library as far as it is needed, once it is loaded. */
interface Reading {
  readonly document: Yaml.Document.Parsed;
  readonly at: (offset: number | undefined) => string;
  readonly isAlias: typeof Yaml.isAlias;
  readonly isMap: typeof Yaml.isMap;
  readonly isScalar: typeof Yaml.isScalar;
  readonly isSeq: typeof Yaml.isSeq;
}

function readMapping(reading: Reading, root: Yaml.YAMLMap): ConfigFile {
  const entries = entriesOf(reading, root);
  const own = entries.find(({ key }) => key === CLUSTERS_KEY);
  if (own === undefined) return { entries, clusters: undefined };
  if (!reading.isMap(own.value)) {
    throw new SeawallError("usage", `${own.keyPlace}: ${CLUSTERS_KEY}: expected a mapping from names to options`, {
      hint: `Write a line "orders:" below it, and that cluster's options below that. ${NO_ALIAS}`,
    });
  }
  if (own.value.items.length === 0) {
    throw new SeawallError("usage", `${own.keyPlace}: ${CLUSTERS_KEY}: there is no cluster in it`, {
      hint: "Name one, or remove the line and put the options of the only cluster at the top.",
    });
  }
  const clusters = entriesOf(reading, own.value).map(({ key, keyPlace, value }): FileCluster => {
    if (value === null) return { name: key, place: keyPlace, entries: [] };
    if (reading.isMap(value)) return { name: key, place: keyPlace, entries: entriesOf(reading, value) };
    throw new SeawallError("usage", `${keyPlace}: ${CLUSTERS_KEY}: expected a mapping of options for "${key}"`, {
      hint: `Write its options as lines like "dsn: host=db1" below it. ${NO_ALIAS}`,
    });
  });
  return { entries: entries.filter((entry) => entry !== own), clusters };
}

const NO_ALIAS = "An alias stands for a plain value, not for a mapping.";

function entriesOf({ document, at, isAlias, isScalar, isSeq }: Reading, map: Yaml.YAMLMap): FileEntry[] {
  const places = new Map<string, string>();
  return map.items.map((pair): FileEntry => {
    const key = pair.key;
    if (!isScalar(key)) {
      throw new SeawallError("usage", `${at(map.range?.[0])}: a key must be plain text`, {
        hint: "See docs/configuration.md.",
      });
    }
    const keyPlace = at(key.range?.[0]);
    // As written: `007` is a name, not the number 7.
    const name = key.source ?? String(key.value);
    if (name === "<<") {
      throw new SeawallError("usage", `${keyPlace}: merge keys are not supported`, {
        hint: "Options at the top of the file are the defaults of all clusters.",
      });
    }
    const before = places.get(name);
    if (before !== undefined) {
      throw new SeawallError("usage", `${keyPlace}: "${name}" is there twice`, {
        hint: `It stands at ${before} already: remove one of the two.`,
      });
    }
    places.set(name, keyPlace);
    const value = pair.value as Yaml.Node | null;
    const node = isAlias(value) ? value.resolve(document) : value;
    if (isScalar(node)) {
      return {
        key: name,
        value: node.value,
        source: node.source ?? String(node.value),
        keyPlace,
        valuePlace: at(node.range?.[0]),
      };
    }
    if (isSeq(node) && !isAlias(value)) {
      const values = node.items.map((item) => (isScalar(item) ? item.value : undefined));
      return { key: name, value: values, source: "", keyPlace, valuePlace: keyPlace };
    }
    // `key` alone gives no value node; a list or mapping is passed on as is and refused with the option's own words, and
    // so is an alias of one.
    return { key: name, value: isAlias(value) ? [] : (node ?? null), source: "", keyPlace, valuePlace: keyPlace };
  });
}
