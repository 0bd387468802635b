// Renders the service's schema with Swagger UI; nothing is validated or fetched elsewhere.
window.addEventListener("load", () => {
  const page = document.getElementById("page");
  window.ui = SwaggerUIBundle({
    url: page.dataset.schema,
    domNode: page,
    deepLinking: true,
    displayRequestDuration: true,
    validatorUrl: null,
    withCredentials: false,
  });
});
