const WIDTH = 24;
const UNITS = ['B', 'kB', 'MB', 'GB', 'TB'] as const;

/** `[##########--------------] 41 %  1.2 of 2.9 GB, 180 MB/s, 9 s left` */
export function progressBar(bytesDone: number, bytesTotal: number, elapsedMs: number): string {
  const share = bytesTotal === 0 ? 1 : bytesDone / bytesTotal;
  const filled = Math.floor(share * WIDTH);
  const unit = unitOf(bytesTotal);
  const text = `[${'#'.repeat(filled)}${'-'.repeat(WIDTH - filled)}] ${Math.floor(share * 100)} %  ${inUnit(bytesDone, unit)} of ${inUnit(bytesTotal, unit)} ${UNITS[unit]}`;
  const perSecond = (bytesDone * 1000) / elapsedMs;
  if (elapsedMs < 1000 || !(perSecond > 0)) return text;
  const speed = unitOf(perSecond);
  return `${text}, ${inUnit(perSecond, speed)} ${UNITS[speed]}/s, ${Math.ceil((bytesTotal - bytesDone) / perSecond)} s left`;
}

const unitOf = (bytes: number): number =>
  Math.min(UNITS.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(1, bytes)) / 3)));
const inUnit = (bytes: number, unit: number): string => (bytes / 1000 ** unit).toFixed(unit < 2 ? 0 : 1);
