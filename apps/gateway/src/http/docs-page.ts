import { openApiDocument } from './openapi.js';

/** /docs: openapi.json rendered once, as one page that loads nothing from elsewhere and needs no script. */
interface Parameter {
  readonly name: string;
  readonly in: string;
  readonly description: string;
  readonly schema: { readonly enum?: readonly string[]; readonly default?: string };
}

interface Operation {
  readonly tags: readonly string[];
  readonly summary: string;
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: { readonly content: Readonly<Record<string, unknown>> };
  readonly responses: Readonly<Record<string, { readonly description: string; readonly content?: object }>>;
}

const METHODS = ['get', 'head', 'post', 'put', 'delete'] as const;

const escape = (text: string): string =>
  text.replace(/[&<>"]/g, (char) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[char]!);

const parameterRow = ({ name, in: place, description, schema }: Parameter): string => {
  const values = schema.enum ? ` <i>${schema.enum.map(escape).join(' | ')}</i>` : '';
  return `<tr><td><code>${escape(name)}</code></td><td>${place}</td><td>${escape(description)}${values}</td></tr>`;
};

const operationSection = (path: string, method: string, operation: Operation, shared: readonly Parameter[]): string => {
  const parameters = [...shared, ...(operation.parameters ?? [])];
  const body = operation.requestBody ? Object.keys(operation.requestBody.content).join(', ') : '';
  const answers = Object.entries(operation.responses)
    .map(([status, { description, content }]) => {
      const types = content ? ` (${Object.keys(content).join(', ')})` : '';
      return `<li><b>${status === 'default' ? 'else' : status}</b> ${escape(description + types)}</li>`;
    })
    .join('');
  return (
    `<section><h3><b>${method.toUpperCase()}</b> <code>${escape(path)}</code></h3><p>${escape(operation.summary)}</p>` +
    (parameters.length > 0 ? `<table>${parameters.map(parameterRow).join('')}</table>` : '') +
    (body === '' ? '' : `<p>Body: <code>${escape(body)}</code></p>`) +
    `<ul>${answers}</ul></section>`
  );
};

const render = (): string => {
  const { info, tags, paths, components } = openApiDocument;
  const sections = tags.map(({ name, description }) => {
    const operations = Object.entries(paths as Record<string, Record<string, unknown>>).flatMap(([path, item]) =>
      METHODS.filter((method) => (item[method] as Operation | undefined)?.tags.includes(name)).map((method) =>
        operationSection(
          path,
          method,
          item[method] as Operation,
          (item['parameters'] as Parameter[] | undefined) ?? [],
        ),
      ),
    );
    return `<h2>${escape(name)}</h2><p>${escape(description)}</p>${operations.join('')}`;
  });
  const schemas = Object.entries(components.schemas).map(
    ([name, schema]) =>
      `<details id="${escape(name)}"><summary>${escape(name)}</summary><pre>${escape(JSON.stringify(schema, null, 2))}</pre></details>`,
  );
  return `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${escape(info.title)}</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a2530;background:#fff}
code,pre{font:14px/1.4 ui-monospace,monospace}section{border:1px solid #d5dde5;border-radius:6px;padding:.2rem 1rem;margin:1rem 0}
td{padding:.15rem .8rem .15rem 0;vertical-align:top}h3 b{color:#0a6c8c}i{color:#5a6875}
@media(prefers-color-scheme:dark){body{color:#dbe4ec;background:#10171e}section{border-color:#2b3742}h3 b{color:#58c4e4}}</style>
<h1>${escape(info.title)}</h1><p>${escape(info.description)} As JSON: <a href="/openapi.json">/openapi.json</a></p>
${sections.join('\n')}<h2>Schemas</h2>${schemas.join('\n')}</html>`;
};

export const docsPage = render();
