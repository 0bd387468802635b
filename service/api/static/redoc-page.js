// Renders the service's schema with Redoc.
window.addEventListener("load", () => {
  const page = document.getElementById("page");
  Redoc.init(page.dataset.schema, { hideDownloadButton: false }, page);
});
