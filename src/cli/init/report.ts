/** Shows the outcome of `seawall init`: findings, files, what is to be done on the server, the next three commands. Pure. */
import { summary, sentence } from "../commands/backup.ts";
import type { Finding } from "../check/findings.ts";
import { columns, type Look } from "../views/layout.ts";
import type { FirstBackup } from "./backup.ts";
import type { InitFile } from "./files.ts";
import { nextCommands } from "./next.ts";
import type { Plan } from "./plan.ts";

export interface Outcome {
  readonly plan: Plan;
  readonly findings: readonly Finding[];
  readonly isWritten: boolean;
  readonly isDryRun: boolean;
  readonly backup: FirstBackup | undefined;
}

export function reportJson({ plan, findings, isWritten, isDryRun, backup }: Outcome): unknown {
  return {
    ok: plan.ok,
    dryRun: isDryRun,
    written: isWritten,
    files: plan.files.map(({ path, purpose, mode, content, isSecret }) => {
      return { path, purpose, mode: `0${mode.toString(8)}`, content: isSecret ? null : content };
    }),
    findings,
    slot: backup === undefined ? null : { name: backup.slot.name, created: backup.slot.created },
    backup: backup === undefined ? null : summary(backup.document),
    notes: plan.notes,
    next: nextCommands({ ...plan.next, hasBackup: backup !== undefined }),
  };
}

/** `findings`: the text of the checks; empty when it was shown before. */
export function reportText(outcome: Outcome, findings: string, { width }: Look): string {
  const { plan, isWritten, isDryRun, backup } = outcome;
  const inner = width === undefined ? undefined : width - 2;
  const files = columns(
    plan.files.map(({ path, purpose }) => [path, purpose]),
    inner,
  ).map((line) => `  ${line}`);
  const heading = isDryRun ? "Files that would be written" : "Files";
  const shown = isDryRun ? plan.files.filter(({ isSecret }) => !isSecret) : plan.todo;
  return [
    findings,
    isWritten || isDryRun ? [heading, ...files].join("\n") : "No file was written.",
    ...(isWritten || isDryRun ? shown.map(contentText) : []),
    ...(isWritten || isDryRun ? [plan.notes.join("\n")] : []),
    ...(backup === undefined ? [] : [backupText(backup)]),
    ...(isWritten ? [nextText(outcome)] : []),
  ]
    .filter((part) => part !== "")
    .join("\n\n");
}

function contentText({ path, content }: InitFile): string {
  return [`--- ${path}`, content.trimEnd()].join("\n");
}

function backupText({ document, slot }: FirstBackup): string {
  return [
    sentence(document),
    `The slot "${slot.name}" keeps WAL on the server from ${slot.restartLsn} on: start the receiver soon, or drop the slot.`,
  ].join("\n");
}

function nextText({ plan, backup }: Outcome): string {
  const rows = nextCommands({ ...plan.next, hasBackup: backup !== undefined });
  return ["Next", ...rows.map(({ line, does }) => `  # ${does}\n  ${line}`)].join("\n");
}
