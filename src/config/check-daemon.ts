/**
 * Finds settings with which scheduled jobs, notifications or the slot budget would fail, so that the start reports them. Pure.
 */
import { SeawallError } from "../errors.ts";
import type { SettingKey, Settings } from "./options.ts";

const RETENTION_KEYS = [
  "keepFull",
  "recoveryWindowMs",
  "keepDaily",
  "keepWeekly",
  "keepMonthly",
  "keepYearly",
] as readonly SettingKey[];

/** `isGiven`: whether the environment, which jobs inherit, has a value for an option. Throws `usage`. */
export function checkDaemon(
  settings: Settings,
  place: (key: SettingKey) => string,
  isGiven: (key: SettingKey) => boolean,
): void {
  if (settings.notifyHeader !== undefined && settings.notifyUrl === undefined) {
    throw new SeawallError("usage", `${place("notifyHeader")}: there is no webhook to send the header to`, {
      hint: "Give notify-url, or leave the header out.",
    });
  }
  if (settings.slotBudgetBytes !== undefined && settings.noSlot) {
    throw new SeawallError("usage", `${place("slotBudgetBytes")}: without a slot the server keeps no WAL for Seawall`, {
      hint: "Leave slot-budget or no-slot out.",
    });
  }
  if (settings.onSlotBudget === "release" && settings.slotBudgetBytes === undefined) {
    throw new SeawallError("usage", `${place("onSlotBudget")}: there is no budget to release at`, {
      hint: "Give slot-budget, a size such as 20GiB.",
    });
  }
  if (settings.expireSchedule === undefined) return;
  if (RETENTION_KEYS.some((key) => settings[key] !== undefined || isGiven(key))) return;
  throw new SeawallError("usage", `${place("expireSchedule")}: there is no retention rule to expire by`, {
    hint: "Put keep-full, recovery-window, keep-daily, keep-weekly, keep-monthly or keep-yearly into the same file or the environment.",
  });
}
