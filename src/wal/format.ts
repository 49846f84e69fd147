/**
 * The layout of WAL pages and records, PostgreSQL 14 to 19: constants only.
 *
 * Source: PostgreSQL `src/include/access/xlog_internal.h`, `xlogrecord.h`, `rmgrlist.h`, `catalog/pg_control.h`,
 * `access/xact.h`, `commands/tablespace.h`. Integers are in the server's byte order; Seawall reads little-endian WAL.
 */

/** XLOG_BLCKSZ. A build option, 8 KiB in every distribution; the long page header is checked against it. */
export const PAGE_SIZE = 8192;

/** SizeOfXLogShortPHD and SizeOfXLogLongPHD: MAXALIGNed, so the last bytes of the short one are padding. */
export const SHORT_HEADER_SIZE = 24;
export const LONG_HEADER_SIZE = 40;

/** XLOG_PAGE_MAGIC by major version: it changes with every format change, once or more a release. */
export const PAGE_MAGIC: Readonly<Record<number, number>> = {
  14: 0xd10d,
  15: 0xd110,
  16: 0xd113,
  17: 0xd116,
  18: 0xd118,
  19: 0xd122,
};

/** The oldest and the newest major version whose WAL Seawall can verify. */
export const MAJOR_MIN = 14;
export const MAJOR_MAX = 19;

/**
 * Tells a version that is newer than every known one. Its pages and records are verified by the newest known layout, and the
 * contents of its records are not read: a layout that has changed must not be guessed.
 */
export function isNewerMajor(majorVersion: number): boolean {
  return majorVersion > MAJOR_MAX;
}

/** Tells the page magic of a newer version. Magics only grow, and one that is still in development may have the newest known. */
export function isNewerMagic(magic: number): boolean {
  return magic >= (PAGE_MAGIC[MAJOR_MAX] ?? 0);
}

/** The major version that writes pages with this magic; undefined for versions Seawall does not know. */
export function majorVersionOfMagic(magic: number): number | undefined {
  for (const [major, known] of Object.entries(PAGE_MAGIC)) if (known === magic) return Number(major);
  return undefined;
}

// Bits of xlp_info that mean the same in every version.
export const XLP_FIRST_IS_CONTRECORD = 0x0001;
export const XLP_LONG_HEADER = 0x0002;

/** The bits of xlp_info that PostgreSQL 19 moved when it dropped XLP_BKP_REMOVABLE. */
export interface PageFlags {
  /** XLP_FIRST_IS_OVERWRITE_CONTRECORD. */
  readonly overwrites: number;
  /** XLP_BKP_REMOVABLE: full-page images on the page may be dropped. 0 where there is no such bit. */
  readonly backupRemovable: number;
  /** XLP_ALL_FLAGS. */
  readonly all: number;
}

const FLAGS_TO_18: PageFlags = { overwrites: 0x0008, backupRemovable: 0x0004, all: 0x000f };
const FLAGS_FROM_19: PageFlags = { overwrites: 0x0004, backupRemovable: 0, all: 0x0007 };

export function pageFlagsOf(majorVersion: number): PageFlags {
  return majorVersion < 19 ? FLAGS_TO_18 : FLAGS_FROM_19;
}

/** SizeOfXLogRecord; xl_crc is its last field and covers what follows the header, then the header up to itself. */
export const RECORD_HEADER_SIZE = 24;
export const XL_XID_OFFSET = 4;
export const XL_PREV_OFFSET = 8;
export const XL_INFO_OFFSET = 16;
export const XL_RMID_OFFSET = 17;
export const XL_CRC_OFFSET = 20;

export const RM_XLOG_ID = 0;
export const RM_XACT_ID = 1;
export const RM_TBLSPC_ID = 5;
/** RM_MAX_BUILTIN_ID, the same from 14 to 19. */
export const RM_MAX_BUILTIN_ID = 21;
/** RM_MIN_CUSTOM_ID: extensions' resource managers, from 15 on. */
export const RM_MIN_CUSTOM_ID = 128;

/** The part of xl_info that belongs to the resource manager (the rest is XLR_INFO_MASK). */
export const RMGR_INFO_MASK = 0xf0;

// Operations of RM_XLOG_ID.
export const XLOG_CHECKPOINT_SHUTDOWN = 0x00;
export const XLOG_SWITCH = 0x40;
export const XLOG_PARAMETER_CHANGE = 0x60;
export const XLOG_RESTORE_POINT = 0x70;
export const XLOG_OVERWRITE_CONTRECORD = 0xd0;

// Operations of RM_TBLSPC_ID.
export const XLOG_TBLSPC_CREATE = 0x00;
export const XLOG_TBLSPC_DROP = 0x10;

// Operations of RM_XACT_ID, after XLOG_XACT_OPMASK.
export const XLOG_XACT_OPMASK = 0x70;
export const XLOG_XACT_COMMIT = 0x00;
export const XLOG_XACT_ABORT = 0x20;
export const XLOG_XACT_COMMIT_PREPARED = 0x30;
export const XLOG_XACT_ABORT_PREPARED = 0x40;

// Block IDs that open a record's main data, and the two small items that may stand before it.
export const XLR_BLOCK_ID_DATA_SHORT = 255;
export const XLR_BLOCK_ID_DATA_LONG = 254;
export const XLR_BLOCK_ID_ORIGIN = 253;
export const XLR_BLOCK_ID_TOPLEVEL_XID = 252;

/** MAXALIGN on every platform with 64-bit integers: records start at multiples of this. */
export const RECORD_ALIGNMENT = 8;

/** PostgreSQL's epoch, 2000-01-01, in microseconds since 1970. */
export const POSTGRES_EPOCH_MICROS = 946_684_800_000_000;
