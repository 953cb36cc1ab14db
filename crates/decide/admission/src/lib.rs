//! Authorization by RBAC and admission decisions.
