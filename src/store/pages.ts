/** Turns the pages of a listing into single objects. */
import type { ObjectInfo } from "./store.ts";

/** Objects of a page at most: as many as a bucket gives in one answer. */
export const PAGE_OBJECTS_MAX = 1000;

export async function* objectsOf(pages: AsyncIterable<readonly ObjectInfo[]>): AsyncGenerator<ObjectInfo> {
  for await (const page of pages) yield* page;
}
