import { Controller, Get, Header } from '@nestjs/common';
import { docsPage } from './docs-page.js';
import { openApiDocument } from './openapi.js';

/** The interface described for programs and for people. */
@Controller()
export class DocsController {
  @Get('openapi.json')
  openApi(): typeof openApiDocument {
    return openApiDocument;
  }

  @Get('docs')
  @Header('content-type', 'text/html; charset=utf-8')
  @Header('content-security-policy', "default-src 'none'; style-src 'unsafe-inline'")
  docs(): string {
    return docsPage;
  }
}
