/** Tells damage in the archive from all other errors. error-kinds.ts says which codes are damage. */
import { hasCode, SeawallError } from "../errors.ts";

/** Returns the error when it means damage; rethrows every other one, such as a store that does not answer. */
export function damageOf(error: unknown): SeawallError {
  if (error instanceof SeawallError && error.isDamage) return error;
  throw error;
}

/** Resolves with undefined for a document that is damaged, or of a version that this Seawall does not know. */
export async function ifReadable<T>(reading: Promise<T>): Promise<T | undefined> {
  try {
    return await reading;
  } catch (error) {
    damageOf(error);
    return undefined;
  }
}

/** Gives "locked" where something is encrypted, and there is no identity that opens it. */
export async function unlessLocked<T>(reading: Promise<T>): Promise<T | "locked"> {
  try {
    return await reading;
  } catch (error) {
    if (hasCode(error, "identity-missing")) return "locked";
    throw error;
  }
}
