/**
 * Lists a source and sorts its files: by timeline, in the order of the WAL. Contents are not read. A file takes about a
 * hundred bytes of memory.
 */
import { SeawallError } from "../errors.ts";
import type { RequestOptions } from "../store/store.ts";
import { type TimelineId, timelineOf } from "../wal/lsn.ts";
import { readSourceName } from "./file-name.ts";
import type { Findings } from "./findings.ts";
import { Strangers } from "./strangers.ts";
import { type ImportSource, pathOf, type SourceFile } from "./source.ts";

export interface Survey {
  /** Segments and partials of a timeline, by their 24 digits, then by path. */
  readonly segments: ReadonlyMap<TimelineId, readonly SourceFile[]>;
  readonly histories: ReadonlyMap<TimelineId, readonly SourceFile[]>;
  readonly backupHistories: readonly SourceFile[];
  readonly files: number;
}

/** 32 TiB of WAL in segments of 16 MiB. */
const FILES_MAX = 2_000_000;

/** Throws `import-source` for a source that cannot be listed, holds no WAL, or holds too many files. */
export async function surveySource(
  source: ImportSource,
  findings: Findings,
  { signal }: RequestOptions,
): Promise<Survey> {
  const segments = new Map<TimelineId, SourceFile[]>();
  const histories = new Map<TimelineId, SourceFile[]>();
  const backupHistories: SourceFile[] = [];
  const strangers = new Strangers();
  let files = 0;
  for await (const { kind, file, ...odd } of source.list({ signal })) {
    if (kind === "file") strangers.note(file);
    const name = readSourceName(file.name);
    if (kind === "odd") {
      // A link or a FIFO of another name is no concern of an import.
      if (name !== undefined || file.name === "") {
        findings.refuse("unreadable", pathOf(file), (odd as { readonly problem: string }).problem);
      } else findings.passedOver++;
      continue;
    }
    if (name === undefined) {
      findings.passedOver++;
      continue;
    }
    if (++files > FILES_MAX) {
      throw new SeawallError("import-source", `${source.description} holds more than ${FILES_MAX} WAL files`, {
        hint: "Import its folders one after another.",
      });
    }
    switch (name.kind) {
      case "segment":
      case "partial":
        addTo(segments, timelineOf(Number.parseInt(name.wal.slice(0, 8), 16)), file);
        break;
      case "history":
        addTo(histories, name.timeline, file);
        break;
      case "backup-history":
        backupHistories.push(file);
        break;
      case "unsupported":
        findings.refuse("unsupported", pathOf(file), name.problem);
        break;
    }
  }
  strangers.refuse(source);
  if (files === 0) {
    throw new SeawallError("import-source", `${source.description} holds no WAL`, {
      hint: "Name the directory or the bucket's prefix that holds files such as 0000000100000000000000A1 or 0000000100000000000000A1.gz.",
    });
  }
  for (const found of [...segments.values(), ...histories.values(), backupHistories]) found.sort(byWalThenPath);
  return { segments, histories, backupHistories, files };
}

function addTo(groups: Map<TimelineId, SourceFile[]>, timeline: TimelineId, file: SourceFile): void {
  const group = groups.get(timeline);
  if (group === undefined) groups.set(timeline, [file]);
  else group.push(file);
}

/** The 24 digits of a name sort in the order of the WAL, whatever the segment size. A whole file sorts before a partial. */
function byWalThenPath(a: SourceFile, b: SourceFile): number {
  const [walA, walB] = [a.name.slice(0, 24), b.name.slice(0, 24)];
  if (walA !== walB) return walA < walB ? -1 : 1;
  const partial = Number(a.name.includes(".partial")) - Number(b.name.includes(".partial"));
  if (partial !== 0) return partial;
  return pathOf(a) < pathOf(b) ? -1 : 1;
}

/** Files of the same segment, one group after the other. */
export function* groupsOf(files: readonly SourceFile[]): Generator<readonly SourceFile[]> {
  let group: SourceFile[] = [];
  for (const file of files) {
    const [first] = group;
    if (first !== undefined && first.name.slice(0, 24) !== file.name.slice(0, 24)) {
      yield group;
      group = [];
    }
    group.push(file);
  }
  if (group.length > 0) yield group;
}
