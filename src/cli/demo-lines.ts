// The progress lines of the demo: what the audience reports and what the server measured, every number measured.

import type { AudienceReport } from "#roles/demo";
import type { Server } from "#roles/server";

/** Seconds between two lines of a running audience: often at first, then rarely. */
const everyS = (line: number): number => (line < 6 ? 5 : 60);

/** A listener of reports that prints. */
export function demoLines(server: Server, print: (line: string) => void): (report: AudienceReport) => void {
  let nextAtMs = 0;
  let lines = 0;
  let lastStage = "";
  return (report) => {
    switch (report.kind) {
      case "made":
        print(
          `demo world made in ${report.tookMs.toFixed(0)} ms: seed ${report.seed}, ${report.rooms} rooms (${report.open} open), ${report.viewers} viewers, ${report.topics} topics`,
        );
        break;
      case "furnishing":
        if (report.stage === lastStage && report.done < report.total) break;
        lastStage = report.stage;
        print(`  putting ${report.stage} by the public API: ${report.done} of ${report.total}`);
        break;
      case "furnished": {
        const refused = Object.entries(report.refused).map(([reason, count]) => `, ${count} refused: ${reason}`);
        print(
          `demo world furnished in ${report.tookMs.toFixed(0)} ms: ${report.items} items, ${report.users} users, ${report.events} past events${refused.join("")}`,
        );
        break;
      }
      case "news":
        print(
          `breaking news${report.triggered ? " (triggered)" : ""}: ${report.name} (${report.category}) is hot, ${percent(report.reach)} of the viewers want it, streamers switch to it`,
        );
        break;
      case "second": {
        if (report.atMs < nextAtMs || report.rates === undefined) break;
        lines += 1;
        nextAtMs = report.atMs + everyS(lines) * 1_000;
        const { rates } = report;
        const freshness = server.gateway.status().eventToFeature;
        const errors = Object.entries(report.errors).map(([reason, count]) => `, ${count} errors: ${reason}`);
        print(
          `viewers: ${report.requestsPerS} answers/s, ${report.eventsPerS} events/s, answer p50 ${report.p50Ms.toFixed(1)} ms p99 ${report.p99Ms.toFixed(1)} ms, ` +
            `event counted p50 ${freshness.p50Ms.toFixed(1)} ms p99 ${freshness.p99Ms.toFixed(1)} ms; ` +
            `clicks ${percent(rates.clicked)} (random ${percent(rates.random)}, popular ${percent(rates.popular)}, best possible ${percent(rates.oracle)})${errors.join("")}`,
        );
        break;
      }
    }
  };
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}
