/** The options of `seawall cost`: a part of the one table (options.ts). */
import { type CommandName, option } from "./option-spec.ts";
import { BadValue, bytes, duration, integer, type ValueType } from "./types.ts";

const COST: readonly CommandName[] = ["cost"];
const DAY = 86_400_000;
const MIB = 2 ** 20;
/** Several copies of the list agree on these prices. The page itself could not be read. */
const EXAMPLE =
  "The default is an example in US dollars: the first tier of Amazon S3 Standard in us-east-1, from copies of the price list of 2025 " +
  "and not from Amazon's own page (aws.amazon.com/s3/pricing). Look up your own.";

/** A number that is not negative, with decimals. */
const decimal: ValueType<number> = {
  type: "string",
  placeholder: "number",
  accepts: "a number such as 0.023",
  parse: (value) => {
    if (!/^\d{1,9}(\.\d{1,9})?$/.test(value)) throw new BadValue(`"${value}" is not a number`, "Write it as 0.023.");
    return Number(value);
  },
};

export const COST_OPTIONS = {
  walRateBytes: option(bytes({ min: 1, max: 2 ** 40 }), {
    commands: COST,
    requiredBy: COST,
    help: "amount of WAL that the server writes in a second, on average: 2MiB",
    more: "Read it from `rate(seawall_received_bytes_total[7d])`, or from two values of `pg_current_wal_lsn()`.",
  }),
  segmentSizeBytes: option(bytes({ min: MIB, max: 2 ** 30 }), {
    commands: COST,
    default: 16 * MIB,
    help: "the server's wal_segment_size",
  }),
  compressionRatio: option(decimal, {
    commands: COST,
    default: 4,
    help: "how many bytes of WAL become one stored byte",
  }),
  backupSizeBytes: option(bytes({ min: 0, max: 2 ** 50 }), {
    commands: COST,
    default: 0,
    help: "stored size of one base backup, as `seawall list` shows it",
  }),
  backupEveryMs: option(duration({ min: 60_000, max: 366 * DAY }), {
    commands: COST,
    default: DAY,
    help: "time between two base backups",
  }),
  restoresPerMonth: option(integer({ min: 0, max: 100_000 }), {
    commands: COST,
    default: 4,
    help: "restores and drills a month that read the archive over a line that is charged",
  }),
  priceStorage: option(decimal, {
    commands: COST,
    default: 0.023,
    help: "price of 1 GB (10^9 bytes) stored for a month",
    more: EXAMPLE,
  }),
  priceWrites: option(decimal, {
    commands: COST,
    default: 0.005,
    help: "price of 1000 PUT or LIST requests",
    more: EXAMPLE,
  }),
  priceReads: option(decimal, { commands: COST, default: 0.0004, help: "price of 1000 GET requests", more: EXAMPLE }),
  priceTransfer: option(decimal, {
    commands: COST,
    default: 0.09,
    help: "price of 1 GB that leaves the store; 0 within one region",
    more: EXAMPLE,
  }),
} as const;
