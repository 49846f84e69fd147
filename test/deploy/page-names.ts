/** Gives the names that pages use their values of a test: folders, stores, connections, moments. Pure. */
import { join } from "node:path";

/** Words of a page, each with its value here. */
export type Names = readonly (readonly [string | RegExp, string | ((found: string) => string)])[];

export interface Values {
  /** The folder that stands for the root of the page's machine. */
  readonly root: string;
  /** URL of the store. */
  readonly url: string;
  readonly dsn: string;
  /** Address of the receiver's status page. */
  readonly listen: string;
  readonly moment: string;
}

/** Folders of the pages: each is one below the site's own. */
const FOLDERS = /(?<![\w.:/@~-])\/(?:etc|srv|mnt|restore|scratch|wal|data|opt|var\/lib|usr\/local)(?=\/|\b)/g;
const MOMENTS =
  /'?\d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d)?(?:Z|[+-]\d\d(?::?\d\d)?)'?|['"]?\d+ (?:minutes?|hours?) ago['"]?/g;
/** A connection as a URI, or as words; quoted or not. */
const DSN = /'postgres(?:ql)?:\/\/[^']*'|(?<!')postgres(?:ql)?:\/\/\S+|'host=[^']*'|(?<=--dsn )host=\S+/g;
const STORE = /'(?:s3|file):\/\/[^']*'|(?<!')(?:s3|file):\/\/\S+/g;

/** Replaces `names` first, and then the names that every page uses. */
export function withValues(text: string, names: Names, { root, url, dsn, listen, moment }: Values): string {
  const all: Names = [
    ...names,
    [/'s3:\/\/old-backups\/([^?']*)[^']*'/g, join(root, "mnt/old-backups/$1")],
    [STORE, url],
    [/https:\/\/\S+/g, "http://127.0.0.1:9/"],
    [DSN, `'${dsn}'`],
    ["127.0.0.1:9848", listen],
    [MOMENTS, `'${moment}'`],
    [FOLDERS, `${root}$&`],
  ];
  return all.reduce((lines, [name, own]) => {
    const every = typeof name === "string" || name.global ? name : new RegExp(name, `${name.flags}g`);
    return typeof own === "string" ? lines.replaceAll(every, own) : lines.replaceAll(every, own);
  }, text);
}
