/** Which versions a test runs on, by the matrix and by what this machine can have. */
import { afterEach, describe, expect, test, vi } from "vitest";
import {
  newestUnderTest,
  oldestAndNewest,
  twoInTurn,
  VERSIONS,
  versionsUnderTest,
  wantedVersions,
  WITHOUT_VERSIONS,
} from "./postgres-binaries.ts";

afterEach(() => void vi.unstubAllEnvs());

interface Row {
  readonly matrix: string | undefined;
  readonly without: string;
  readonly versions: readonly number[];
  readonly borders: readonly number[];
  readonly newest: number;
}

describe("the versions under test", () => {
  test.each<Row>([
    { matrix: undefined, without: "", versions: [14, 18, 19], borders: [14, 19], newest: 19 },
    { matrix: undefined, without: "19", versions: [14, 18], borders: [14, 18], newest: 18 },
    { matrix: "all", without: "", versions: VERSIONS, borders: VERSIONS, newest: 19 },
    { matrix: "all", without: "19", versions: VERSIONS.slice(0, -1), borders: VERSIONS.slice(0, -1), newest: 18 },
    { matrix: "15,16,17", without: "", versions: [15, 16, 17], borders: [15, 17], newest: 17 },
    { matrix: "19", without: "", versions: [19], borders: [19], newest: 19 },
  ])("matrix $matrix, without $without: $versions", ({ matrix, without, versions, borders, newest }) => {
    vi.stubEnv("SEAWALL_TEST_MATRIX", matrix);
    vi.stubEnv(WITHOUT_VERSIONS, without);
    expect(versionsUnderTest()).toEqual(versions);
    expect(oldestAndNewest()).toEqual(borders);
    expect(newestUnderTest()).toBe(newest);
  });

  test.each<[string | undefined, readonly (readonly number[])[]]>([
    [
      undefined,
      [
        [14, 18],
        [18, 19],
        [14, 19],
        [14, 18],
      ],
    ],
    [
      "15,16,17,18",
      [
        [15, 16],
        [16, 17],
        [17, 18],
        [15, 18],
      ],
    ],
    [
      "14,19",
      [
        [14, 19],
        [14, 19],
      ],
    ],
    ["19", [[19], [19]]],
    ["all", [VERSIONS, VERSIONS]],
  ])("matrix %s: the tests of a campaign get these in turn", (matrix, turns) => {
    vi.stubEnv("SEAWALL_TEST_MATRIX", matrix);
    vi.stubEnv(WITHOUT_VERSIONS, "");
    expect(turns.map((_, index) => twoInTurn(index))).toEqual(turns);
  });

  test("a version that cannot be had is still wanted: the run says that it is missing", () => {
    vi.stubEnv("SEAWALL_TEST_MATRIX", undefined);
    vi.stubEnv(WITHOUT_VERSIONS, "19");
    expect(wantedVersions()).toEqual([14, 18, 19]);
  });
});
