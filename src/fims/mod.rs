//! The bus: codec (pure), cipher, client and broker.
