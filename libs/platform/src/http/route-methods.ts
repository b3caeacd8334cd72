/**
 * Which methods a path has. Fastify answers 404 for a path it knows under another method; the right answer is
 * 405 with `Allow`. Asked only when a request found no route, so it need not be fast.
 */
interface Route {
  readonly pattern: RegExp;
  readonly methods: Set<string>;
}

export class RouteMethods {
  readonly #routes = new Map<string, Route>();

  /** `url` in Fastify's spelling: `/v1/topics/:topic`, `/files/*`. */
  add(url: string, methods: string | readonly string[]): void {
    let route = this.#routes.get(url);
    if (!route) {
      route = { pattern: patternOf(url), methods: new Set() };
      this.#routes.set(url, route);
    }
    for (const method of typeof methods === 'string' ? [methods] : methods) route.methods.add(method);
  }

  /** The methods of the routes that match a path (with or without a query), sorted; none if nothing does. */
  allowed(target: string): string[] {
    const path = target.split(/[?#]/, 1)[0];
    const methods = new Set<string>();
    for (const route of this.#routes.values()) {
      // A catch-all says nothing about what a path is for.
      if (route.pattern.source === MATCH_ALL || !route.pattern.test(path)) continue;
      for (const method of route.methods) methods.add(method);
    }
    return [...methods].sort();
  }
}

const patternOf = (url: string): RegExp => {
  const source = url
    .split(/(:[A-Za-z0-9_]+(?:\([^)]*\))?\??|\*)/)
    .map((part) => {
      if (part === '*') return '.*';
      if (part.startsWith(':')) return '[^/]+';
      return part.replace(/[.+?^${}()|[\]\\]/g, '\\$&');
    })
    .join('');
  return new RegExp(`^${source}/?$`);
};

const MATCH_ALL = patternOf('/*').source;
