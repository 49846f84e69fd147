/** Formats numbers for people: three digits and a unit. Pure; `status` and the status page share it. */

export function humanBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let value = bytes;
  let unit = 0;
  // 999.5 would print as 1000.
  while (Math.abs(value) >= 999.5 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${threeDigits(value, unit === 0)} ${units[unit] ?? ""}`;
}

export function humanSeconds(seconds: number): string {
  if (seconds < 0.0005) return "0 s";
  if (seconds < 0.9995) return `${threeDigits(seconds * 1000, false)} ms`;
  if (seconds < 120) return `${threeDigits(seconds, false)} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`;
}

/** libpq's version number as people know it: 180004 is 18.4. */
export function versionText(serverVersion: number): string {
  return `${Math.floor(serverVersion / 10_000)}.${serverVersion % 10_000}`;
}

export function threeDigits(value: number, whole: boolean): string {
  if (whole || Math.abs(value) >= 99.95) return value.toFixed(0);
  return Math.abs(value) >= 9.995 ? value.toFixed(1) : value.toFixed(2);
}
