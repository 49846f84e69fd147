/** Builds JSON Schemas (2020-12) from small words: a position in WAL, a time, a closed object. Pure. */

export type Schema = Readonly<Record<string, unknown>>;

/** Marks a member that a document may lack. A symbol is not written into the file. */
const OPTIONAL = Symbol("optional");

/** A schema for each member of `T`: a member that the type gains or loses is an error of the compiler. */
export type Members<T> = { readonly [K in keyof T]-?: Schema };

/** An object with exactly these members. Give `T` where the code has a type for it. */
export function closed<T = Record<string, unknown>>(description: string, members: Members<T>): Schema {
  const entries = Object.entries<Schema>(members);
  const required = entries.filter(([, schema]) => !(OPTIONAL in schema)).map(([name]) => name);
  return {
    description,
    type: "object",
    additionalProperties: false,
    required,
    properties: Object.fromEntries(entries),
  };
}

export function optional(schema: Schema): Schema {
  return { ...schema, [OPTIONAL]: true };
}

export function nullable(schema: Schema): Schema {
  const { description, ...rest } = schema;
  return { description, anyOf: [rest, { type: "null" }] };
}

export function anyOf(description: string, ...schemas: readonly Schema[]): Schema {
  return { description, anyOf: schemas };
}

export function list(description: string, items: Schema): Schema {
  return { description, type: "array", items };
}

export function text(description: string, pattern?: string): Schema {
  return { description, type: "string", ...(pattern === undefined ? {} : { pattern }) };
}

export function word(description: string, words: readonly string[]): Schema {
  return { description, enum: words };
}

/** Exactly the words of `T`: one that the type gains or loses is an error of the compiler. */
export function wordOf<T extends string>(description: string, words: Readonly<Record<T, true>>): Schema {
  return word(description, Object.keys(words));
}

export function flag(description: string, value?: boolean): Schema {
  return { description, ...(value === undefined ? { type: "boolean" } : { const: value }) };
}

/** A whole number from 0 on. */
export function count(description: string): Schema {
  return { description, type: "integer", minimum: 0 };
}

/** A number from 0 on, which may have a fraction. */
export function amount(description: string): Schema {
  return { description, type: "number", minimum: 0 };
}

export function time(description: string): Schema {
  return { description, type: "string", format: "date-time" };
}

export function lsn(description: string): Schema {
  return text(description, "^[0-9A-F]{1,8}/[0-9A-F]{1,8}$");
}

export function timeline(description: string): Schema {
  return { description, type: "integer", minimum: 1 };
}

export function segment(description: string): Schema {
  return text(description, "^[0-9A-F]{24}$");
}

/** The id of a backup or a drill. */
export function id(description: string): Schema {
  return text(description, "^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}$");
}

export function systemIdentifier(description: string): Schema {
  return text(description, "^[0-9]{1,20}$");
}

export function exitStatus(description: string): Schema {
  return { description, type: "integer", minimum: 0, maximum: 255 };
}
