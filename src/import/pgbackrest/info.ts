/** Reads backup.info: which backups a stanza has, oldest first. */
import type { RequestOptions } from "../../store/store.ts";
import { refused } from "../base/found.ts";
import type { ImportSource } from "../source.ts";
import { readWholeIni } from "./files.ts";

export const INFO = "backup.info";

export interface ListedBackup {
  readonly label: string;
  /** Sum of file sizes. */
  readonly bytes: number;
  /** Taken before a major upgrade: of another system identifier than the stanza's present one. */
  readonly isOfOlderCluster: boolean;
}

/** Throws `import-source`, `backup-corrupt`. */
export async function readInfo(source: ImportSource, options: RequestOptions): Promise<readonly ListedBackup[]> {
  const { read } = await readWholeIni(
    source,
    INFO,
    () => {
      const found: { label: string; bytes: number; dbId: unknown }[] = [];
      let current: unknown;
      return {
        take({ section, key, value }): void {
          if (section === "db" && key.toString() === "db-id") current = value;
          if (section !== "backup:current") return;
          const facts = value as Readonly<Record<string, unknown>> | null;
          const bytes = Number(facts?.["backup-info-size"] ?? 0);
          found.push({ label: key.toString(), bytes, dbId: facts?.["db-id"] });
        },
        end: () => found.map(({ dbId, ...rest }) => ({ ...rest, isOfOlderCluster: dbId !== current })),
      };
    },
    options,
  );
  if (read.length > 0) return read;
  throw refused(
    `${source.description} lists no backups`,
    "Name the folder of a stanza below backup/ that has backups.",
  );
}
