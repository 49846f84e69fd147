/**
 * Aborted continuation records. After a crash that lost the rest of a record, the server gives the record up: it sets
 * XLP_FIRST_IS_OVERWRITE_CONTRECORD on the page where the rest was due and names the broken record in an
 * XLOG_OVERWRITE_CONTRECORD, the first record of that page. Neither may come without the other.
 *
 * Source: PostgreSQL `xlog.c` (CreateOverwriteContrecordRecord, AdvanceXLInsertBuffer), `xlogrecovery.c`
 * (VerifyOverwriteContrecord).
 */
import { formatLsn, type Lsn } from "./lsn.ts";

export class OverwriteWatch {
  /** True from the page's header until the record that must come first on it. */
  due = false;
  #broken: Lsn | undefined;

  /** A page says that it overwrites; `broken` is where the record given up began, undefined when its start was not seen. */
  expect(broken: Lsn | undefined): void {
    this.due = true;
    this.#broken = broken;
  }

  /** Judges a record when one is due or when it overwrites: `named` is its overwritten_lsn. Returns what is wrong, if anything. */
  judge(overwrites: boolean, named: Lsn | undefined): string | undefined {
    if (!overwrites) return "its page overwrites a record, but this first record on it does not say which";
    if (!this.due) return "the record overwrites another, but its page does not say so";
    if (named === undefined) return "the record does not say which record it overwrites";
    if (this.#broken !== undefined && named !== this.#broken) {
      return `the record overwrites ${formatLsn(named)}, but the broken one is at ${formatLsn(this.#broken)}`;
    }
    this.due = false;
    return undefined;
  }
}
