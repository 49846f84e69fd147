/** Follows the slot over several looks: whether WAL that is not archived is safe there, and since when that holds. Pure. */
import type { SlotStatus } from "../../receive/status.ts";
import type { SlotHealth } from "./document.ts";

/** A slot is endangered when no more than this share of the WAL that the server may keep is left. */
const SAFE_SHARE_LITTLE = 0.2;
/** An endangered one is in order again with this share, so that the judgement does not flap. */
const SAFE_SHARE_ENOUGH = 0.4;

/** `slot`: null when the server could not be asked. `before`: null at the first look. */
export function followSlot(before: SlotHealth | null, slot: SlotStatus | null, nowMs: number): SlotHealth {
  const state = slot === null ? "unseen" : judgeSlot(slot, before?.state === "endangered");
  const isSame = before?.state === state;
  // A clock that was set back does not make the time negative.
  const sinceMs = isSame ? Math.min(Date.parse(before.since), nowMs) : nowMs;
  return { state, since: new Date(sinceMs).toISOString() };
}

function judgeSlot(slot: SlotStatus, wasEndangered: boolean): SlotHealth["state"] {
  const { exists, walStatus, safeBytes, retainedBytes } = slot;
  if (!exists || walStatus === "lost" || walStatus === null) return "lost";
  if (walStatus === "unreserved") return "endangered";
  if (safeBytes === null || retainedBytes === null) return "ok";
  const share = Math.max(0, safeBytes) / Math.max(1, retainedBytes + Math.max(0, safeBytes));
  return share < (wasEndangered ? SAFE_SHARE_ENOUGH : SAFE_SHARE_LITTLE) ? "endangered" : "ok";
}
