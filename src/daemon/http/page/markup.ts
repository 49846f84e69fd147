/** Makes HTML of which nothing from outside becomes markup: `markup` escapes every value that is not markup itself. Pure. */

/** Text that is HTML already. */
export class Markup {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

type Value = string | number | Markup | readonly Markup[];

/** A template tag: the literal parts are HTML, the values are text, markup, or a list of markup. */
export function markup(parts: TemplateStringsArray, ...values: readonly Value[]): Markup {
  return new Markup(parts.map((part, i) => (i === 0 ? part : textOf(values[i - 1] ?? "") + part)).join(""));
}

export const NOTHING = new Markup("");

function textOf(value: Value): string {
  if (value instanceof Markup) return value.text;
  if (typeof value === "string") return escape(value);
  return typeof value === "number" ? String(value) : value.map(({ text }) => text).join("");
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

function escape(text: string): string {
  return text.replaceAll(/[&<>"']/g, (character) => ENTITIES[character] ?? "");
}

/** Adds that a later time is possible. */
export function orLater(time: Markup, isUnread: boolean | undefined): Markup {
  return isUnread === true ? markup`${time} or later` : time;
}

/** How a time is written: to the minute, to the second, or only its hour or day for an axis. */
export type TimeStyle = "minute" | "second" | "hour" | "day";

/**
 * Writes a time in a zone: UTC here, the browser's own in the page's script, which carries this function's source. It uses
 * nothing but its arguments for that reason.
 */
export function timeText(ms: number, style: TimeStyle, timeZone: string | undefined): string {
  const formatter = new Intl.DateTimeFormat("en-GB", {
    weekday: "short",
    day: "numeric",
    month: "short",
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    hourCycle: "h23",
    timeZoneName: "short",
    timeZone,
  });
  const parts = Object.fromEntries(formatter.formatToParts(ms).map(({ type, value }) => [type, value]));
  const clock = `${parts["hour"]}:${parts["minute"]}`;
  if (style === "hour") return clock;
  if (style === "day") return `${parts["day"]} ${parts["month"]}`;
  const seconds = style === "second" ? `:${parts["second"]}` : "";
  // A narrow column breaks it between date and time only.
  return `${parts["weekday"]}\u00a0${parts["day"]}\u00a0${parts["month"]} ${clock}${seconds}\u00a0${parts["timeZoneName"]}`;
}

/** A time that the script turns into the browser's zone; its title stays UTC. Text that is no time stays as it is. */
export function timeTag(iso: string, style: TimeStyle = "minute"): Markup {
  const ms = Date.parse(iso);
  if (Number.isNaN(ms)) return markup`${iso}`;
  return markup`<time datetime="${new Date(ms).toISOString()}" title="${utcText(ms)}" data-as="${style}">${timeText(ms, style, "UTC")}</time>`;
}

/** Text with the ISO times in it as times. */
export function withTimes(text: string): Markup {
  const parts = text.split(/(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z)/);
  return markup`${parts.map((part, i) => (i % 2 === 1 ? timeTag(part, "second") : markup`${part}`))}`;
}

/** The same inside a drawing, which knows no `time` element. `at`: attributes that place it. */
export function timeLabel(ms: number, style: TimeStyle, at: Markup): Markup {
  return markup`<text ${at} data-time="${ms}" data-as="${style}">${timeText(ms, style, "UTC")}</text>`;
}

export function utcText(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

/** Ends a text with a full stop where it has no end yet. */
export function sentence(text: string): string {
  return text === "" || /[.!?]$/.test(text) ? text : `${text}.`;
}

/** A number and its unit stay on one line. */
export function solid(text: string): string {
  return text.replaceAll(" ", "\u00a0");
}

export interface TableParts {
  readonly caption: string;
  /** A heading above it says the same: the caption is for screen readers only. */
  readonly isNamedAbove?: boolean;
  readonly head: readonly string[];
  readonly rows: readonly { readonly key: string; readonly cells: readonly (Markup | string)[] }[];
}

/**
 * A table that becomes a list of cards where it is narrow. There the columns' names stand before the cells, and roles keep
 * it a table for a screen reader.
 */
export function table({ caption, isNamedAbove = false, head, rows }: TableParts): Markup {
  const names = head.map((name) => markup`<th scope="col" role="columnheader">${name}</th>`);
  const lines = rows.map(({ key, cells }) => {
    const [first = "", ...others] = cells;
    const rest = others.map(
      (cell, i) => markup`<td role="cell" data-label="${head[i + 1] ?? ""}"><span>${cell}</span></td>`,
    );
    return markup`<tr role="row" data-key="${key}"><th scope="row" role="rowheader" data-label="${head[0] ?? ""}"><span>${first}</span></th>${rest}</tr>`;
  });
  return markup`<table role="table"><caption${isNamedAbove ? markup` class="unseen"` : NOTHING}>${caption}</caption><thead role="rowgroup"><tr role="row">${names}</tr></thead><tbody role="rowgroup">${lines}</tbody></table>`;
}
