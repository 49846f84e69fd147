/** The timelines of an archive as a tree: the parent of each, where and why it forked, and its stored WAL. Pure. */
import type { Lsn, TimelineId } from "../../wal/lsn.ts";
import { parentOf, type TimelineHistory } from "../../wal/timeline.ts";
import type { WalInventory } from "../wal/inventory.ts";

export interface TimelineNode {
  readonly timeline: TimelineId;
  /** Undefined for the first one, and for one whose history file is missing. */
  readonly parent: TimelineId | undefined;
  /** Where it left its parent. */
  readonly forkLsn: Lsn | undefined;
  /** The reason that the history file gives. */
  readonly reason: string | undefined;
  /** Sealed segments that carry this timeline in their name. */
  readonly segments: number;
  readonly storedBytes: number;
  /** How many ancestors are shown above it. */
  readonly depth: number;
}

/** Children behind their parents, in the order of their numbers. */
export function timelineTree(inventory: Pick<WalInventory, "histories" | "runs">): TimelineNode[] {
  const nodes = [...inventory.histories.values()].map((history) => {
    const runs = inventory.runs.filter(({ timeline }) => timeline === history.timeline);
    return {
      ...originOf(history),
      timeline: history.timeline,
      segments: runs.reduce((sum, { first, last }) => sum + last - first + 1, 0),
      storedBytes: runs.reduce((sum, { storedBytes }) => sum + storedBytes, 0),
    };
  });
  const known = new Set(nodes.map(({ timeline }) => timeline));
  const below = (parent: TimelineId | undefined, depth: number): TimelineNode[] =>
    nodes
      .filter((node) => (node.parent !== undefined && known.has(node.parent) ? node.parent : undefined) === parent)
      .sort((a, b) => a.timeline - b.timeline)
      .flatMap((node) => [{ ...node, depth }, ...below(node.timeline, depth + 1)]);
  return below(undefined, 0);
}

function originOf(history: TimelineHistory): Pick<TimelineNode, "parent" | "forkLsn" | "reason"> {
  const parent = parentOf(history);
  return { parent: parent?.timeline, forkLsn: parent?.lsn, reason: history.entries.at(-1)?.reason };
}
