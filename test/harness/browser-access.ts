/** How to reach the run's browser; apart from its driver, which takes a moment to load. */

export const BROWSER_PACKAGES = ["chromium"];

/** The address of its debugger; or why there is none. */
export type BrowserAccess = { readonly endpoint: string } | { readonly unavailable: string };
