/**
 * Checks of S3's documents before the SDK reads them: its parser takes a cut document for a short one, and another document for
 * an empty one. Also reads the document of an error, which proxies and servers send with any status.
 */

export interface ErrorDocument {
  readonly code: string;
  readonly message: string;
  readonly region: string | undefined;
}

/** True when the root element is the expected one and is closed at the end. */
export function isWhole(xml: string, root: string): boolean {
  const match = /^\uFEFF?(?:\s|<\?[^>]*\?>|<!--(?!-->)[^]*?-->)*<([A-Za-z0-9:]+)(?:\s[^<>]*?)?(\/?)>/.exec(xml);
  if (match?.[1] !== root) return false;
  const end = xml.trimEnd();
  return match[2] === "/" ? end.length === match[0].length : end.endsWith(`</${root}>`);
}

/** Reads any document with an `Error` at its root; S3 also sends one with status 200 (CompleteMultipartUpload). */
export function parseError(xml: string): ErrorDocument | undefined {
  const document = /<Error>([^]*?)<\/Error>/.exec(xml)?.[1];
  if (document === undefined) return undefined;
  const field = (name: string): string | undefined => {
    const value = new RegExp(`<${name}>([^<]*)</${name}>`).exec(document)?.[1];
    return value === undefined ? undefined : unescape(value);
  };
  return { code: field("Code") ?? "", message: field("Message") ?? "", region: field("Region") };
}

const ENTITIES: Readonly<Record<string, string>> = { lt: "<", gt: ">", amp: "&", quot: '"', apos: "'" };

export function unescape(text: string): string {
  return text.replace(
    /&(?:#(\d{1,7})|#x([0-9a-fA-F]{1,6})|(\w{2,4}));/g,
    (whole, decimal?: string, hex?: string, name?: string) => {
      if (name !== undefined) return ENTITIES[name] ?? whole;
      const code = decimal === undefined ? Number.parseInt(hex ?? "", 16) : Number(decimal);
      return code <= 0x10ffff ? String.fromCodePoint(code) : whole;
    },
  );
}
