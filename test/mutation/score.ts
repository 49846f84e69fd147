/** What the mutation report of a file says: its score, and the mutants that no test noticed. */

/** The part of the mutation testing report schema that is read here. */
export interface MutationReport {
  readonly files: Readonly<Record<string, { readonly source: string; readonly mutants: readonly Mutant[] }>>;
}

export interface Mutant {
  readonly replacement?: string;
  readonly status: string;
  readonly location: { readonly start: Position; readonly end: Position };
}

/** Both count from 1. */
interface Position {
  readonly line: number;
  readonly column: number;
}

export interface Score {
  readonly name: string;
  readonly killed: number;
  /** Mutants that count: neither ignored nor unable to run. */
  readonly judged: number;
  readonly percent: number;
}

/** Percent of a room's mutants that its tests must notice. */
export const SCORE_MIN = 85;

/** A mutant that loops for ever is noticed as well as one that fails a test. */
const NOTICED = ["Killed", "Timeout"];
const MISSED = ["Survived", "NoCoverage"];

export function scoreOf(path: string, { files }: MutationReport): Score {
  const mutants = files[path]?.mutants ?? [];
  const killed = mutants.filter(({ status }) => NOTICED.includes(status)).length;
  return score(path, killed, killed + mutants.filter(({ status }) => MISSED.includes(status)).length);
}

export function sumOf(name: string, scores: readonly Score[]): Score {
  const sum = (key: "killed" | "judged"): number => scores.reduce((total, one) => total + one[key], 0);
  return score(name, sum("killed"), sum("judged"));
}

function score(name: string, killed: number, judged: number): Score {
  return { name, killed, judged, percent: judged === 0 ? 100 : (100 * killed) / judged };
}

/** Such as `src/wal/lsn.ts:12:3 Survived: a > b → a >= b`. */
export function survivorLines(path: string, { files }: MutationReport): string[] {
  const { source = "", mutants = [] } = files[path] ?? {};
  const missed = mutants.filter(({ status }) => MISSED.includes(status));
  return missed.map((mutant) => {
    const { line, column } = mutant.location.start;
    const change = `${oneLine(textAt(source, mutant))} → ${oneLine(mutant.replacement ?? "")}`;
    return `${path}:${line}:${column} ${mutant.status}: ${change}`;
  });
}

function textAt(source: string, { location: { start, end } }: Mutant): string {
  const lines = source.split("\n").slice(start.line - 1, end.line);
  const last = lines.length - 1;
  return lines
    .map((line, index) => line.slice(index === 0 ? start.column - 1 : 0, index === last ? end.column - 1 : undefined))
    .join("\n");
}

function oneLine(text: string): string {
  const flat = text.replace(/\s+/g, " ");
  return flat.length > 110 ? `${flat.slice(0, 110)}…` : flat;
}
