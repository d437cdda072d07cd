/** A point in pixels, from the left and from the top. */
export type Point = readonly [x: number, y: number];
/** Corners in reading position: top left, top right, bottom right, bottom left. */
export type Quad = readonly [Point, Point, Point, Point];

/** A rectangle at any angle: centre, unit vector along its first side, and half the length of both sides, in pixels. */
export interface Rectangle {
  readonly x: number;
  readonly y: number;
  readonly alongX: number;
  readonly alongY: number;
  readonly halfWidth: number;
  readonly halfHeight: number;
}

/**
 * Convex hull by Andrew's monotone chain.
 *
 * @param points in the order of their y, those with equal y in the order of their x
 */
export function convexHull(points: readonly Point[]): Point[] {
  if (points.length < 3) return [...points];
  const left = chain(points);
  const right = chain(points.toReversed());
  return [...left.slice(0, -1), ...right.slice(0, -1)];
}

function chain(points: readonly Point[]): Point[] {
  const kept: Point[] = [];
  for (const point of points) {
    while (kept.length >= 2) {
      const a = kept[kept.length - 2] as Point;
      const b = kept[kept.length - 1] as Point;
      if ((b[0] - a[0]) * (point[1] - a[1]) - (b[1] - a[1]) * (point[0] - a[0]) > 0) break;
      kept.pop();
    }
    kept.push(point);
  }
  return kept;
}

/** The smallest rectangle around a convex polygon. One of its sides lies on a side of the polygon (Freeman, Shapira 1975). */
export function smallestRectangle(hull: readonly Point[]): Rectangle {
  let best: Rectangle | undefined;
  hull.forEach(([ax, ay], index) => {
    const [bx, by] = hull[(index + 1) % hull.length] as Point;
    const length = Math.hypot(bx - ax, by - ay);
    const rectangle =
      length === 0 ? boundingRectangle(hull, 1, 0) : boundingRectangle(hull, (bx - ax) / length, (by - ay) / length);
    if (best === undefined || area(rectangle) < area(best)) best = rectangle;
  });
  return best ?? { x: 0, y: 0, alongX: 1, alongY: 0, halfWidth: 0, halfHeight: 0 };
}

function area({ halfWidth, halfHeight }: Rectangle): number {
  return 4 * halfWidth * halfHeight;
}

function boundingRectangle(points: readonly Point[], alongX: number, alongY: number): Rectangle {
  let [uMin, uMax, vMin, vMax] = [Infinity, -Infinity, Infinity, -Infinity];
  for (const [x, y] of points) {
    const u = x * alongX + y * alongY;
    const v = y * alongX - x * alongY;
    uMin = Math.min(uMin, u);
    uMax = Math.max(uMax, u);
    vMin = Math.min(vMin, v);
    vMax = Math.max(vMax, v);
  }
  const u = (uMin + uMax) / 2;
  const v = (vMin + vMax) / 2;
  return {
    x: u * alongX - v * alongY,
    y: u * alongY + v * alongX,
    alongX,
    alongY,
    halfWidth: (uMax - uMin) / 2,
    halfHeight: (vMax - vMin) / 2,
  };
}

/** The same rectangle with `distance` pixels more on every side. */
export function grown(rectangle: Rectangle, distance: number): Rectangle {
  return {
    ...rectangle,
    halfWidth: rectangle.halfWidth + distance,
    halfHeight: rectangle.halfHeight + distance,
  };
}

/** Corners from the top left, clockwise, where the first side is the one nearest to the horizontal. */
export function cornersOf({ x, y, alongX, alongY, halfWidth, halfHeight }: Rectangle): Quad {
  // Of the four directions of the sides, the one that points right; then the corners follow clockwise (y grows downwards).
  let [dx, dy, width, height] = [alongX, alongY, halfWidth, halfHeight];
  if (Math.abs(dx) < Math.abs(dy)) [dx, dy, width, height] = [-dy, dx, height, width];
  if (dx < 0) [dx, dy] = [-dx, -dy];
  const corner = (u: number, v: number): Point => [x + u * dx - v * dy, y + u * dy + v * dx];
  return [corner(-width, -height), corner(width, -height), corner(width, height), corner(-width, height)];
}
